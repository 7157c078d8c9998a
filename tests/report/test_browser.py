"""The page of a report in headless Chromium: sounds play, votes are counted, nothing is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import PROGRAM, Browser, browser
from tests.report.made import LONG, SECONDS, TEXTS, add_long_text, make_run, make_study
from wand.report.page import write_report
from wand.report.source import find_source

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(PROGRAM is None, reason="needs the program chromium, chromium-browser or google-chrome"),
]
# Loads every sound: its address, whether its length is known (1 or more), and the length in seconds.
SOUNDS = """Promise.all([...document.querySelectorAll(".player audio")].map(async (audio) => {
  const ready = new Promise((done) => audio.onloadedmetadata = audio.onerror = done);
  audio.load();
  await ready;
  return [audio.getAttribute("src"), audio.readyState, audio.duration];
}))"""
PICTURES = """Promise.all([...document.images].map(async (image) => {
  image.loading = "eager";
  await image.decode();
  return image.naturalWidth;
}))"""
# Votes for the student in every sentence but the last, where there is no difference.
VOTES = """(async () => {
  document.querySelector("#pair button").click();
  const texts = [];
  while (!document.querySelector("#trial").hidden) {
    const sides = ["a", "b"].map((side) => document.getElementById(side));
    await Promise.all(sides.map((audio) => new Promise((done) => { audio.onloadedmetadata = done; audio.load(); })));
    texts.push(document.getElementById("said").textContent);
    const last = document.getElementById("place").textContent.startsWith(`Sentence ${COUNT} of`);
    const side = sides.find((audio) => audio.getAttribute("src").includes("student")).id;
    document.querySelector(`[data-vote=${last ? "none" : side}]`).click();
  }
  return texts;
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    run = make_run(folder / "run")
    add_long_text(run)
    sources = [find_source(run), find_source(make_study(folder / "study"))]
    write_report(sources[:1], folder / "one")
    return write_report(sources, folder / "both")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def one(page: Path) -> Path:
    return page.parent.parent / "one" / "index.html"


def test_sounds_load_and_pictures_are_there(chromium: Browser, page: Path) -> None:
    chromium.open(page.as_uri())
    sounds = chromium.run(SOUNDS)
    assert len(sounds) == len(TEXTS) * len(SECONDS) + len(LONG) + 3
    assert all(ready >= 1 for _, ready, _ in sounds)
    lengths = {src.split("-", 3)[3].removesuffix(".wav"): length for src, _, length in sounds if src.endswith(".wav")}
    assert lengths == pytest.approx(SECONDS, abs=0.01)
    assert [length for src, _, length in sounds if "-long-" in src] == pytest.approx([*LONG.values()], abs=0.01)
    widths = chromium.run(PICTURES)
    assert len(widths) == len(sounds) + 1
    assert all(width >= 1 for width in widths)
    assert chromium.complaints() == []


def test_a_click_into_a_spectrogram_plays_from_there(chromium: Browser, page: Path) -> None:
    chromium.open(one(page).as_uri())
    place = chromium.run("""new Promise((done) => {
      const figure = document.querySelector(".player");
      const audio = figure.querySelector("audio"), time = figure.querySelector(".time");
      audio.addEventListener("seeked", () => done(audio.currentTime / audio.duration), { once: true });
      time.scrollIntoView();
      const box = time.getBoundingClientRect();
      const place = { clientX: box.left + box.width / 2, clientY: box.top + 5, bubbles: true };
      time.dispatchEvent(new MouseEvent("click", place));
    })""")
    assert place == pytest.approx(0.5, abs=0.1)
    assert chromium.complaints() == []


def test_votes_are_counted_and_names_are_hidden_until_the_end(chromium: Browser, page: Path) -> None:
    chromium.open(one(page).as_uri())
    texts = chromium.run(VOTES.replace("COUNT", str(len(TEXTS))))
    assert sorted(texts) == sorted(TEXTS.values())
    tally = chromium.run('[...document.querySelectorAll("#tally tr")].map((row) => row.innerText.split("\\t"))')
    assert tally == [["student", "1"], ["teacher", "0"], ["no difference", "1"]]
    said = chromium.run('document.getElementById("result").textContent')
    assert said.startswith("You preferred student in 1 of 2 sentences.")
    assert "would be 100 % likely" in said  # one coin always falls this unevenly
    chromium.run('document.getElementById("as-text").click()')
    head, *lines = chromium.run('document.getElementById("votes-as-text").value').splitlines()
    assert head == "sentence\tA\tB\tvote"
    votes = {line.split("\t")[0]: line.split("\t")[1:] for line in lines}
    assert votes.keys() == TEXTS.keys()
    assert all(sorted(vote[:2]) == ["student", "teacher"] for vote in votes.values())
    assert sorted(vote[2] for vote in votes.values()) == ["no difference", "student"]
    assert chromium.complaints() == []


def test_sides_are_drawn_and_hidden(chromium: Browser, page: Path) -> None:
    chromium.open(one(page).as_uri())
    sides = set()
    for _ in range(20):  # all the same by chance: once in half a million
        chromium.run('document.querySelector("#pair button").click()')
        sides.add(chromium.run('document.getElementById("a").getAttribute("src").includes("student")'))
        assert "student" not in chromium.run('document.getElementById("trial").innerText')
        assert chromium.run('getComputedStyle(document.querySelector(".listening")).display') == "none"
    assert sides == {True, False}
    chromium.run('document.getElementById("stop").click()')
    assert chromium.run('document.getElementById("result").textContent') == "No votes."


def test_the_page_fits_a_phone(chromium: Browser, page: Path) -> None:
    for file in (page, one(page)):
        chromium.open(file.as_uri(), width=360, height=740)
        assert chromium.run("document.documentElement.scrollWidth") == 360
