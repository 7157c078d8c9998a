"""The ablations: plan, statistics, processes, and two rows with two seeds from end to end at tiny size."""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from scipy.stats import ttest_rel
from torch import Tensor

from benchmarks.ablations import runs
from benchmarks.ablations.__main__ import main
from benchmarks.ablations.figures import Line, measures
from benchmarks.ablations.plan import BASELINE, ROWS, Run, choose, plan
from benchmarks.ablations.report import sentence
from benchmarks.ablations.results import Heard, Key, SystemFigures, read_results, write_results
from benchmarks.ablations.statistics import paired
from benchmarks.ablations.windows import upper_difference
from tests.workplace import Workplace
from wand.cli.configs import shipped_configs
from wand.console.interrupt import Interrupted, handling_signals
from wand.evaluation.study.rows import Errors, StudyRow, read_rows


class Clock:
    """A recogniser that hears a letter in every hundredth of a second."""

    def __init__(self, weights: str, device: str = "cpu", language: str = "en") -> None:
        self.name = weights
        self.language = language

    def transcribe(self, sounds: Sequence[Tensor], sample_rate: int) -> list[str]:
        return ["a" * round(100 * len(sound) / sample_rate) for sound in sounds]


EARS = [f"{__name__}.Clock:{name}" for name in ("first", "second")]


def test_the_interval_is_that_of_the_hand() -> None:
    # Differences 1, 2, 3: mean 2, standard deviation 1, t(2) = 4.3027.
    found = paired({0: 5.0, 1: 7.0, 2: 9.0}, {0: 4.0, 1: 5.0, 2: 6.0, 3: 100.0})
    half = 4.30265 / math.sqrt(3)
    assert (found.mean, found.seeds) == (2.0, 3)
    assert found.interval == pytest.approx((2 - half, 2 + half), abs=1e-5)
    assert not found.resolved
    assert paired({0: 5.0, 1: 5.1}, {0: 4.0, 1: 4.05}).resolved


@pytest.mark.parametrize("count", [2, 3, 6, 30])
def test_the_interval_is_that_of_scipy(count: int) -> None:
    own, other = [math.sin(9 * i) for i in range(count)], [math.cos(5 * i) for i in range(count)]
    true = ttest_rel(own, other).confidence_interval(0.95)
    assert paired(dict(enumerate(own)), dict(enumerate(other))).interval == pytest.approx((true.low, true.high))


def test_one_seed_has_no_interval_and_none_in_common_no_difference() -> None:
    found = paired({0: 3.0}, {0: 1.0, 1: 2.0})
    assert (found.mean, found.interval, found.resolved) == (2.0, None, False)
    with pytest.raises(ValueError, match="no seed in common"):
        paired({0: 3.0}, {1: 1.0})


def test_the_rows_that_decide_the_recipe_come_first_and_take_turns() -> None:
    planned = plan(ROWS)
    names = [run.row.name for run in planned]
    assert names[:6] == ["both", "kl-only", "no-curriculum"] * 2
    assert [run.seed for run in planned[:6]] == [0, 0, 0, 1, 1, 1]
    counts = {row.name: names.count(row.name) for row in ROWS}
    assert {name for name, count in counts.items() if count == 6} == {"both", "kl-only", "no-curriculum"}
    assert set(counts.values()) == {3, 6}
    assert names[18:] == sorted(names[18:], key=list(counts).index)
    # Teacher and untrained weights speak once.
    assert [run.row.name for run in planned if "teacher" in run.systems] == ["both"]
    untrained = [run.row.name for run in planned if "untrained" in run.systems]
    assert sorted(untrained) == [
        "both",
        "layer-windows",
        "layer-windows-fewest",
        "window-128",
        "window-16",
        "window-64",
        "window-8",
    ]


def test_every_row_is_made_of_shipped_configs_and_every_ablation_is_a_row() -> None:
    overlays = {overlay for row in ROWS for overlay in row.configs}
    shipped = {name for name in shipped_configs() if name.startswith("ablations/")}
    assert overlays == shipped | {"lora"}


def test_the_baseline_is_always_among_the_rows() -> None:
    assert [row.name for row in choose(["jsd", "ce-only"])] == ["both", "ce-only", "jsd"]
    with pytest.raises(ValueError, match=r"--rows jds: there is no such row, only both, kl-only"):
        choose(["jds"])


def test_a_missing_package_is_named_before_the_first_run(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("wand.lora.find_spec", lambda name: None)
    assert main(["--rows", "lora", "--page", "docs/results.md"]) == 2
    assert "needs peft, which is not installed: pip install 'wand-tts[lora]'" in capsys.readouterr().err
    assert not Path("runs").exists()


def line(title: str, rates: Sequence[float], kl: Sequence[float], trained: bool = True) -> Line:
    figures = [
        SystemFigures(32, 0.5, own, 100, {"ear": Heard([600, 400], [round(1000 * rate), 0], [0, 0], [0, 0])})
        for rate, own in zip(rates, kl, strict=True)
    ]
    return Line(title, dict(enumerate(figures)), trained)


def test_a_sentence_says_what_is_shown_and_what_is_not() -> None:
    columns = measures(["ear"], with_words=False)
    base = line("both", [0.05, 0.06, 0.07], [0.03, 0.03, 0.03])
    own = line("distillation alone", [0.049, 0.061, 0.069], [0.02, 0.021, 0.019])
    said = sentence(own, base, columns)
    assert said.startswith("* **distillation alone** against *both*, 3 seeds. It shows: KL is better by 0.0100 nats [")
    # Differences of the CER: -0.1, 0.1, -0.1 points; mean -0.033, half 4.3027 * 0.11547 / sqrt(3) = 0.287.
    assert "not show a difference of CER %, ear (from -0.32 to +0.25 points); agree % (from +0.00 to +0.00" in said
    worse = sentence(line("no training", [0.2] * 3, [0.03] * 3, trained=False), base, columns)
    assert "CER %, ear is worse by 14.00 points [11.52, 16.48]" in worse
    assert "Without training" in worse
    assert "one seed shows no difference" in sentence(line("one", [0.1], [0.1]), base, columns)


def heard(wrong: Sequence[int]) -> Heard:
    """Sentences of ten letters."""
    return Heard([10] * len(wrong), [*wrong], [2] * len(wrong), [0] * len(wrong))


def test_the_bound_above_the_teacher_is_that_of_resampled_sentences() -> None:
    own = [heard([1 + (i + seed) % 2 for i in range(30)]) for seed in (0, 1)]
    # Every sentence has 3 wrong letters of 20, and 1 of 10: 15 % minus 10 %, whatever is drawn.
    assert upper_difference(own, heard([1] * 30)) == pytest.approx(5.0)
    # 15 % minus the mean of 30 draws of 10 % or 20 %: standard deviation 5 / sqrt(30) points.
    other = heard([1 if i < 15 else 2 for i in range(30)])
    assert upper_difference(own, other) == pytest.approx(1.645 * 5 / math.sqrt(30), abs=0.2)


def test_errors_are_summed_by_sentence_and_bounded_by_take() -> None:
    def row(name: str, seed: int, wrong: int) -> StudyRow:
        errors = {"ear": Errors(wrong, 10, 1, 2), "other": Errors(0, 10, 0, 2)}
        return StudyRow(name, "student", seed, "anna", "ten chars!", {}, "stop", 1.0, 1.0, errors, {}, None)

    found = Heard.of([row("b", 0, 3), row("a", 0, 1), row("b", 1, 99), row("a", 1, 0)], "ear")
    assert found == Heard([20, 20], [1, 13], [4, 4], [2, 2])
    assert (found.cer, found.wer) == (14 / 40, 0.5)
    assert Heard([10], [1], [0], [0]).wer is None


def test_a_process_leaves_its_output_and_a_failure_is_told(workplace: Workplace) -> None:
    runs.start("this", [], Path("logs/zen.log"))
    assert "Beautiful is better than ugly." in Path("logs/zen.log").read_text()
    with pytest.raises(ValueError, match=r"no_such_module failed \(1\): .*No module named .*\(see logs/none.log\)"):
        runs.start("no_such_module", [], Path("logs/none.log"))


def test_a_signal_is_passed_on(workplace: Workplace) -> None:
    Path("sleeper.py").write_text(
        "import signal, sys, time\n"
        "def stop(*_):\n    print('saved', flush=True)\n    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    log = Path("sleeper.log")

    def interrupt() -> None:
        for _ in range(600):
            if log.is_file() and "ready" in log.read_text():
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=interrupt)
    with handling_signals():
        sender.start()
        with pytest.raises(Interrupted, match="SIGINT"):
            runs.start("sleeper", [], log)
    sender.join()
    assert log.read_text().split() == ["ready", "saved"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was started. It runs in this process, which has imported all."""
    calls: list[list[str]] = []

    def start(module: str, arguments: Sequence[str], log: Path, threads: int | None = None) -> None:
        calls.append([module, *arguments])
        status = importlib.import_module(module).main(arguments)
        if status:
            raise ValueError(f"{module} failed ({status})")

    monkeypatch.setattr(runs, "start", start)
    return calls


@pytest.fixture
def tiny(workplace: Workplace) -> list[str]:
    """Options of the command for a tiny config: two rows with two seeds."""
    config = yaml.safe_load(shipped_configs()["quickstart"].read_text())
    config["model"]["backbone"]["init_args"]["pretrained"] = str(workplace.pretrained)
    config["model"]["window"] = 8
    config["data"]["source"]["init_args"] = {"hours": 0.02, "validation_sentences": 3, "test_sentences": 3}
    config["data"] |= {"batch_size": 4, "workers": 0}
    config["trainer"] |= {"enable_progress_bar": False, "max_steps": 3}
    config["last_checkpoint"]["every_n_train_steps"] = 1
    config["table"] = {"columns": [], "seconds": [4.0]}
    Path("tiny.yaml").write_text(yaml.safe_dump(config))
    rows = ["--rows", "kl-only", "--seeds", "0", "1", "--takes", "1", "--recognisers", *EARS]
    return ["--config", "tiny.yaml", *rows, "--page", "docs/results.md", "--model.optimizer.learning_rate=1e-2"]


def cer(folder: Path, system: str, name: str) -> float:
    """CER in percent, from the takes."""
    (study,) = folder.glob("evaluation-*")
    rows = [row for row in read_rows(study / "rows.jsonl") if row.system == system]
    assert len(rows) == 3
    errors = [row.errors[name] for row in rows]
    return 100 * sum(min(own.wrong_letters, own.letters) for own in errors) / sum(own.letters for own in errors)


def lines_of(page: str, begin: str) -> list[str]:
    return [text for text in page.splitlines() if text.startswith(begin)]


def folder_of(name: str) -> Path:
    (folder,) = (path for path in Path("runs/ablations").glob(f"{name}-*") if path.is_dir())
    return folder


def key(folder: Path) -> Key:
    return Key.of(folder.name, EARS, 1)


def test_two_rows_with_two_seeds(
    workplace: Workplace, tiny: list[str], started: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tiny) == 0
    fits = [call for call in started if call[1] == "fit"]
    evaluations = [call for call in started if call[1] == "evaluate"]
    assert [call[:2] for call in started if call not in [*fits, *evaluations]] == [["wand.cli", "analyze"]]
    assert (len(fits), len(evaluations)) == (4, 4)
    assert all("--model.optimizer.learning_rate=1e-2" in call for call in fits)
    assert ["--config=ablations/kl-only" in call for call in fits] == [False, True, False, True]
    # Teacher, untrained weights and recordings speak once.
    assert ["--students_only" in call for call in evaluations] == [False, True, True, True]
    folders = {name: folder_of(name) for name in ("both-0", "both-1", "kl-only-0", "kl-only-1")}

    # The page has the figures of the takes.
    page = Path("docs/results.md").read_text()
    both, alone = (
        [cer(folders[f"{row}-{seed}"], "student", "second") for seed in (0, 1)] for row in ("both", "kl-only")
    )
    mean = (alone[0] - both[0] + alone[1] - both[1]) / 2
    half = 12.7062 * abs(alone[0] - both[0] - (alone[1] - both[1])) / 2
    shown = f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"
    (row,) = (text for text in lines_of(page, "| distillation alone | 2 |") if "[" in text)
    assert f"| {sum(alone) / 2:.2f} | " in row
    assert (f"**{shown}**" if abs(mean) > half else f"not resolved: {shown}") in row
    assert f"{cer(folders['both-0'], 'teacher', 'first'):.2f}" in page
    assert f"{cer(folders['both-0'], 'untrained', 'first'):.2f}" in page
    assert "All 3 test sentences" in page
    assert "4 of 4 runs are finished" in page
    assert "Heard by: first, second." in page
    assert f"Written by `python -m benchmarks.ablations {' '.join(tiny)}`" in page
    assert "* **distillation alone** against *both losses*, 2 seeds." in page

    assert f"round trip through the codec: {cer(folders['both-0'], 'recorded', 'first'):.2f} % (first), " in page

    # Agreement and KL are those of `wand test`, the covered attention that of `wand analyze`.
    results = read_results(Path("docs/results.jsonl"))
    best = folders["kl-only-1"] / "checkpoints" / "best.ckpt"
    workplace.run("test", f"--ckpt_path={best}", "--table.full.windows=[]")
    table = json.loads((folders["kl-only-1"] / "test" / "table.json").read_text())
    own = results[key(folders["kl-only-1"])].systems["student"]
    (true,) = (row for row in table["rows"] if row["system"]["name"] == "student")
    assert (own.kl, own.agreement) == pytest.approx((true["kl"], true["agreement"]), rel=1e-4)
    analysis = json.loads((folders["both-0"] / "analysis" / "coverage.json").read_text())
    (covered,) = (line["covered"] for line in analysis["windows"] if line["window"] == 8)
    size = results[key(folders["both-0"])].systems["student"].kv_bytes / 2**20
    assert len(lines_of(page, f"| 8 | {size:.2f} | {100 * covered:.1f} |")) == 1

    # A student of the teacher's speech is tested on the recorded speech, too: there the teacher has the same figures.
    _, taught_row = choose(["teacher-speech"])
    changes = {"prompts.init_args.hours": 0.02, "validation_share": 0.3, "test_share": 0.3}
    brief = tuple(f"--data.source.init_args.{name}={value}" for name, value in changes.items())
    setup = runs.Setup("tiny.yaml", recognisers=(EARS[0],), takes=1)
    taught = setup.do(Run(replace(taught_row, options=brief), 0)).systems["student"]
    tables = [
        json.loads((folder / "table.json").read_text())["rows"]
        for folder in (folders["both-0"] / "closing", folder_of("teacher-speech-0") / "test")
    ]
    assert tables[0][0]["system"]["name"] == tables[1][0]["system"]["name"] == "teacher"
    assert tables[1][0]["ce"] == pytest.approx(tables[0][0]["ce"], rel=1e-5)
    assert [line["kl"] for line in tables[1] if line["system"]["name"] == "student"] == [taught.kl]

    # A fit that was interrupted goes on, and gives the same.
    before = len(started)
    write_results(Path("docs/results.jsonl"), {one: own for one, own in results.items() if "both-1" not in one.run})
    shutil.rmtree(folders["both-1"] / "closing")
    shutil.rmtree(next(folders["both-1"].glob("evaluation-*")))
    assert main(tiny) == 0
    assert [call[1] for call in started[before:]] == ["fit", "evaluate"]
    assert f"--ckpt_path={folders['both-1']}" in started[before]
    assert Path("docs/results.md").read_text() == page

    # Another hearing speaks again, keeps the figures of the first, and trains nothing.
    before = len(started)
    assert main([*tiny, "--takes", "2", "--seeds", "1", "--rows", "kl-only"]) == 0
    assert [call[1] for call in started[before:]] == ["evaluate", "analyze", "evaluate"]
    assert read_results(Path("docs/results.jsonl")).keys() > results.keys()
    assert main(tiny) == 0
    assert Path("docs/results.md").read_text() == page

    # Nothing is done twice, also where there are only the figures.
    before = len(started)
    shutil.rmtree("runs/ablations")
    assert main(tiny) == 0
    assert len(started) == before
    assert Path("docs/results.md").read_text() == page

    # Another setting is another run. One that fails does not end the others.
    capsys.readouterr()
    assert main([*tiny, "--seeds", "0", "--model.window=3"]) == 1
    printed = capsys.readouterr().err
    assert "both, seed 0: wand.cli failed (2)" in printed
    assert "kl-only, seed 0: wand.cli failed (2)" in printed


def test_a_changed_config_is_another_folder(workplace: Workplace) -> None:
    Path("own.yaml").write_text("name: own\n")
    run = Run(BASELINE, 0)
    before = runs.Setup("own.yaml").folder(run)
    assert runs.Setup("own.yaml", takes=5).folder(run) == before
    Path("own.yaml").write_text("# A comment changes nothing.\nname: own\n")
    assert runs.Setup("own.yaml").folder(run) == before
    assert runs.Setup("own.yaml", ("--trainer.max_steps=8",)).folder(run) != before
    Path("own.yaml").write_text("name: own\nmodel: {window: 16}\n")
    assert runs.Setup("own.yaml").folder(run) != before
