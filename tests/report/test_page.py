"""The page of a report: what it refers to, what it says, and that texts cannot break it."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from torch.utils.tensorboard import SummaryWriter

from tests.report.made import SECONDS, TEXTS, add_long_text, make_run, make_study
from wand.evaluation.result import TestResult
from wand.evaluation.result_files import read_result, write_result
from wand.files.writing import write_text
from wand.report.page import write_report
from wand.report.source import find_source


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img"):
            self._open.append(tag)
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    @property
    def addresses(self) -> list[str]:
        return [
            value
            for _, attributes in self.tags
            for name in ("src", "href")
            if (value := attributes.get(name)) and not value.startswith(("#", "data:"))
        ]

    def said(self, tag: str) -> list[str]:
        return [" ".join(text.split()) for text in self.texts[tag]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "<em>mine")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("studies") / "mine")


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(write_report([find_source(run)], run / "report"))


def report(out: Path, *folders: Path) -> Page:
    return Page(write_report([find_source(folder) for folder in folders], out))


def test_everything_that_the_page_needs_is_in_its_folder(page: Page, run: Path) -> None:
    folder = run / "report"
    assert all(not urlsplit(address).scheme and not address.startswith("/") for address in page.addresses)
    named = {folder / unquote(address) for address in page.addresses}
    assert named == {path for path in folder.rglob("*") if path.is_file() and path.name != "index.html"}
    assert "url(" not in "".join(page.texts["style"])
    sounds = sorted(path.read_bytes() for path in (folder / "sounds").iterdir())
    assert sounds == sorted(path.read_bytes() for path in (run / "test" / "sounds").iterdir())


def test_texts_and_names_are_shown_as_they_are(page: Page) -> None:
    assert [text for text in page.said("h3") if text in TEXTS.values()] == list(TEXTS.values())
    assert "heard: <u>student</u> (2 of 20 letters wrong)" in page.said("p")
    assert page.count("b") == page.count("u") == page.count("em") == page.count("i") == 0
    assert page.count("script") == 2
    trials = json.loads(page.texts["script"][0])
    assert {trial["id"]: trial["text"] for trial in trials} == TEXTS
    assert all(set(trial["sounds"]) == set(SECONDS) for trial in trials)


def test_a_long_text_is_heard_in_both_ways(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert "One long text" not in report(tmp_path / "without", run).said("h2")
    add_long_text(run)
    page = report(tmp_path / "with", run)
    assert "One long text" in page.said("h2")
    said = page.said("figcaption")
    assert "in one continuous decode 1.50 s" in said
    assert "sentence by sentence 1.75 s" in said
    assert page.said("p").count("heard: one too. (1 of 8 letters wrong, CER 12.5 %)") == 2
    pictures = {attributes["src"] for tag, attributes in page.tags if tag == "img"}
    assert {
        "pictures/1-long-0-in-one-continuous-decode.png",
        "pictures/1-long-1-sentence-by-sentence.png",
    } <= pictures
    assert any("Heard by ear." in note for note in page.said("p"))


def test_further_untrained_windows_are_folded(page: Page) -> None:
    assert [text for text in page.said("summary") if text == "Further systems"] == ["Further systems"] * len(TEXTS)
    folded = [" ".join(text.split()) for text in page.texts["details"] if "Further systems" in text]
    assert all("untrained-4" in text and "teacher" not in text for text in folded)


def test_pictures_and_players_are_named(page: Page) -> None:
    for tag, attributes in page.tags:
        if tag in ("img", "audio"):
            assert attributes.get("alt") or attributes.get("aria-label")
    said = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert "Spectrogram of untrained: 0 to 8 kHz, 0.60 s" in said
    widths = [attributes["style"] for _, attributes in page.tags if attributes.get("class") == "time"]
    assert widths[:4] == ["width: 83.33%", "width: 66.67%", "width: 100.0%", "width: 75.0%"]


def test_the_numbers_are_those_of_the_table(page: Page, run: Path) -> None:
    table = json.loads((run / "test" / "table.json").read_text())
    cells, bars = page.said("td"), page.said("span")
    for row in table["rows"]:
        speech = row["speech"]
        low, high = (100 * bound for bound in speech["cer_interval"])
        said = f"{100 * speech['cer']:.1f} [{low:.1f}, {high:.1f}]"
        assert said in cells
        assert said in bars
        assert f"{row['kl']:.4f}" in cells
        assert f"{row['kv_bytes']['60'] / 2**20:.2f} MiB" in bars
        assert f"{row['step_ms']['3000']:.2f} ms" in bars
    assert "79.7 %" in cells
    (lead,) = (text for text in page.said("p") if text.startswith("EncodecLM"))
    assert "(weights: <i>weights</i>) was adapted to a window of 8 speech columns: a recogniser hears 10.0 %" in lead
    assert "against 5.0 % with the original model and 25.0 % with its weights" in lead
    assert "after 60 s of speech takes 4.00 MiB instead of 4.00 MiB." in lead


def test_every_number_names_its_file(page: Page) -> None:
    sources = [text.removeprefix("Source: ") for text in page.said("p") if text.startswith("Source: ")]
    assert {"test/sounds", "test/table.json", "analysis/coverage.md"} <= set(sources)
    assert any(text.startswith("events.out.tfevents.") for text in sources)
    assert page.count("figure") > 0


def test_curves_are_drawn_without_values_that_are_not_finite(page: Page) -> None:
    labels = [attributes["aria-label"] or "" for tag, attributes in page.tags if tag == "svg"]
    assert labels[0].startswith("Loss, nats per label. loss: 4 at step 0, 3.002 at step 998")
    assert labels[1].startswith("CER of validation sentences, share of letters. student: 0.25 at step 500")
    assert len(labels) == 2
    points = [attributes["points"] or "" for tag, attributes in page.tags if tag == "polyline"]
    assert len(points[0].split()) == 251  # every second point, and the last


def test_a_study_has_its_first_seeds_and_its_tables(study: Path, tmp_path: Path) -> None:
    page = report(tmp_path / "out", study)
    trials = json.loads(page.texts["script"][0])
    assert [sorted(trial["sounds"]) for trial in trials] == [["recorded", "student"], ["student"]]
    heard = [text for text in page.said("p") if text.startswith("heard:")]
    assert heard == [
        f"heard: {said} letters wrong)" for said in ("recorded 0 (0 of 9", "student 0 (0 of 9", "student 1 (1 of 9")
    ]
    assert "5.0 [4.0, 6.0]" in page.said("span")
    assert page.said("summary") == ["1 more table"]
    assert "What it means." in page.said("p")
    (lead,) = (text for text in page.said("p") if text.startswith("1 system "))
    assert lead == (
        "1 system spoke 2 sentences of a <list> with 2 seeds: ear hears this share of the letters wrong: "
        "recorded 2.0 %, student 5.0 %."
    )


def test_the_rates_of_trained_voices_are_said_to_be_theirs(tmp_path: Path) -> None:
    study = make_study(tmp_path / "mine")
    about = json.loads((study / "study.json").read_text())
    about["sentences"]["count"], about["unseen"] = 5, ["iris"]
    write_text(study / "study.json", json.dumps(about))
    assert any(
        text.startswith("1 system spoke 5 sentences of a <list> with 2 seeds: ear hears this share of the letters ")
        and "wrong, in the 2 sentences in trained voices: recorded 2.0 %" in text
        for text in report(tmp_path / "out", study).said("p")
    )


def test_several_runs_are_compared(run: Path, study: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other")
    result = read_result(other / "test")
    rows = [row for row in result.rows if row.system.name != "untrained"]
    write_result(TestResult(rows, {}, (), "embedded"), other / "test")
    page = report(tmp_path / "out", run, other, study)
    assert page.said("h1") == ["3 runs and studies"]
    assert page.said("h3")[0] == "The students"
    names = [run.name, "other", "mine"]
    assert [text for text in page.said("h2") if text in names] == names
    assert page.said("th").count("other") == 1
    trials = json.loads(page.texts["script"][0])
    assert len(trials) == len(TEXTS)  # the same sentence of several runs is one
    assert {"<em>mine: student", "other: student", "mine: student"} <= set(trials[0]["sounds"])
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_folders_of_one_name_become_paths(tmp_path: Path) -> None:
    one, two = make_study(tmp_path / "a" / "same"), make_study(tmp_path / "b" / "same")
    page = report(tmp_path / "out", one, two)
    assert {str(one), str(two)} <= set(page.said("h2"))


def test_a_run_without_speech_has_its_validation_sentences(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for path in (run / "test" / "sounds").iterdir():
        if path.name.startswith("a_b_1"):
            name = path.stem.partition("-")[2].replace("recorded", "reference")
            (run / "samples").mkdir(exist_ok=True)
            path.rename(run / "samples" / f"0-{name}.wav")
        else:
            path.unlink()
    result = read_result(run / "test")
    write_result(TestResult([replace(row, speech=None) for row in result.rows], {}), run / "test")
    with SummaryWriter(str(run)) as board:
        board.add_text("sentence/0", "So <it> was logged. (anna)", 4)
    page = report(tmp_path / "out", run)
    assert "So <it> was logged. (anna)" in page.said("h3")
    assert page.count("audio") == len(SECONDS) + 2  # and those of the blind comparison
    assert "CER" not in "".join(page.texts["td"])
    assert "Speech" not in page.said("h3")


def test_an_older_report_is_replaced_and_nothing_else(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report(out, run)
    write_text(out / "sounds" / "older.wav", "")
    report(out, run)
    assert not (out / "sounds" / "older.wav").exists()
    (out / ".DS_Store").touch()  # of the system, not of the user
    link = tmp_path / "link"
    link.symlink_to(out)
    report(link, run)
    assert link.is_symlink()
    link.unlink()
    assert not (out / ".DS_Store").exists()
    (out / "votes.txt").write_text("A, B, A")
    with pytest.raises(ValueError, match=r"holds votes\.txt, which is no part of a report: move it"):
        report(out, run)
    assert (out / "votes.txt").read_text() == "A, B, A"
    (out / "index.html").write_text("<p>my own page")
    with pytest.raises(ValueError, match="other files than a report"):
        report(out, run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_what_cannot_be_reported_gets_one_line(study: Path, tmp_path: Path) -> None:
    for folder, message in ((tmp_path, "holds nothing to report"), (tmp_path / "no", "no folder at")):
        with pytest.raises(ValueError, match=message):
            find_source(folder)
    unfinished = make_study(tmp_path / "unfinished")
    (unfinished / "table.json").unlink()
    with pytest.raises(ValueError, match="is not finished"):
        find_source(unfinished)
    outside = make_study(tmp_path / "outside")
    row = json.loads((outside / "rows.jsonl").read_text().splitlines()[0])
    write_text(tmp_path / "secret.wav", "secret")
    write_text(outside / "rows.jsonl", json.dumps({**row, "sound": "../secret.wav"}) + "\n")
    with pytest.raises(ValueError, match="outside the folder"):
        report(tmp_path / "out", outside)
    write_text(outside / "rows.jsonl", "{\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 1"):
        report(tmp_path / "out", outside)
    assert not (tmp_path / "out").exists()
