"""A run, checkpoint or export from somebody else starts no code: every attempt here would leave a file behind."""

from __future__ import annotations

import importlib
import json
import pkgutil
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import wand
from tests.cli.test_errors import refused
from tests.processes import command, end, start
from tests.workplace import Workplace
from wand import WandModule
from wand.cli import main
from wand.cli.configs import settle_arguments
from wand.cli.parts.opening import open_codec
from wand.data import sources as data_sources
from wand.evaluation.metrics import KNOWN
from wand.model.tokenizers import TextTokenizer
from wand.recognition import PretrainedRecogniser
from wand.registry import BACKBONES, CODEC_CLASSES, METRICS, PARTS, SOURCES
from wand.runs.checkpoints import codec_of_run, load_backbone_and_settings, load_original
from wand.runs.export import export
from wand.runs.named_code import known_class, named_in_value
from wand.runs.trust import trusting
from wand.training.teacher import build_teacher

MARKER = "it-ran"
EVIL = f"open({MARKER!r}, 'w').close()\n\n\nclass Thing:\n    def __init__(self, *a, **k): pass\n"
SYNTHESIZE = ["synthesize", "yes.", "--reference", "none.wav"]
POPEN = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", MARKER]}}
WORKER: dict[str, Any] = {
    "class_path": "wand.codecs.worker.WorkerCodec",
    "init_args": {"model": "evil.py", "python": sys.executable, "release": "."},
}


def seanet(ratios: Any) -> dict[str, Any]:
    """A codec with a setting whose annotation is `Any`."""
    return {"class_path": "EncodecPackageCodec", "init_args": {"weights": "none.th", "seanet": {"ratios": ratios}}}


@pytest.fixture
def stranger(run: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of a run, and with modules and scripts that leave a marker when they run."""
    shutil.copytree(run.folder / "runs" / "quickstart", tmp_path / "runs" / "theirs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != ""])
    for place in (Path(), Path("runs/theirs"), Path("wand"), Path("wand/backbones")):
        place.mkdir(exist_ok=True)
        (place / "evil.py").write_text(EVIL)
    (Path("wand") / "__init__.py").write_text(EVIL)
    yield Path("runs/theirs")
    assert not Path(MARKER).exists(), "foreign code ran"
    sys.modules.pop("evil", None)


def edit(run: Path, place: str, value: Any) -> None:
    """Set a value in the config of a run."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    *above, last = place.split("/")
    section = config
    for name in above:
        section = section[name]
    section[last] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


ATTEMPTS: dict[str, tuple[str, Any, str]] = {
    "program": ("data/codec", POPEN, "'subprocess.Popen'"),
    "as-text": ("data/codec", "evil.Thing", "'evil.Thing'"),
    "as-yaml-text": ("data/codec", "{class_path: evil.Thing}", "evil.Thing"),
    "as-file": ("data/codec", "codec.yaml", "'codec.yaml'"),
    "as-file-without-dot": ("data/codec", "codec", "'codec'"),
    "module-of-wand": ("data/codec", {"class_path": "wand.evil.Thing"}, "'wand.evil.Thing'"),
    "attribute-of-wand": (
        "data/codec",
        {"class_path": "wand.codecs.worker.subprocess.Popen", "init_args": {"args": ["touch", MARKER]}},
        "'wand.codecs.worker.subprocess.Popen'",
    ),
    "function-of-wand": ("data/codec", {"class_path": "wand.cli.main"}, "'wand.cli.main'"),
    "other-class-of-wand": ("data/codec", {"class_path": "wand.codecs.worker.WorkerProcess"}, "WorkerProcess"),
    "worker": ("data/codec", WORKER, "python"),
    "interpolated": ("data/codec", "${x}", "'${x}'"),
    "escaped-yaml-in-any": ("data/codec", seanet(json.dumps(POPEN).replace("s_p", "s\\u005fp")), "subprocess.Popen"),
    "quoted-yaml-in-any": ("data/codec", seanet(json.dumps(json.dumps(POPEN))), "subprocess.Popen"),
    "interpolation-in-any": ("data/codec", seanet("${x}"), "'${x}'"),
    "list-as-program": (
        "data/codec",
        {"class_path": "WorkerCodec", "init_args": {"model": "index_tts", "python": ["evil.py"], "release": "."}},
        "python ['evil.py']",
    ),
    "dotted-key": ("data/codec.class_path", "evil.Thing", "'evil.Thing'"),
    "section-in-file": ("data", "codec.yaml", "'codec.yaml'"),
    "settings-in-file": ("model/loss", "codec.yaml", "'codec.yaml'"),
    "adapter": ("model/backbone", {"class_path": "evil.Thing"}, "model.backbone.class_path 'evil.Thing'"),
    "adapter-of-wand": (
        "model/backbone/class_path",
        "wand.backbones.causal_lm.Path",
        "'wand.backbones.causal_lm.Path'",
    ),
    "nested": ("model/backbone/init_args", {"codec": {"class_path": "evil.Thing"}}, "'evil.Thing'"),
    "source": ("data/source", {"class_path": "evil.Thing", "init_args": {}}, "'evil.Thing'"),
    "prompts": (
        "data/source",
        {"class_path": "wand.data.sources.teacher_samples.TeacherSamples", "init_args": {"prompts": "evil.Thing"}},
        "data.source.init_args.prompts 'evil.Thing'",
    ),
    "policy": ("model/window", {"class_path": "evil.Thing"}, "model.window.class_path"),
    "divergence": ("model/loss/divergence", "evil.Thing", "model.loss.divergence 'evil.Thing'"),
    "callbacks": ("trainer/callbacks", [{"class_path": "evil.Thing"}], "trainer.callbacks[0].class_path"),
    "callbacks-as-text": ("trainer/callbacks", ["evil.Thing"], "trainer.callbacks[0] 'evil.Thing'"),
    "callbacks-appended": ("trainer/callbacks+", "evil.Thing", "'evil.Thing'"),
    "one-callback": ("trainer/callbacks", "evil.Thing", "'evil.Thing'"),
    "strategy": ("trainer/strategy", "evil.Thing", "'evil.Thing'"),
    "logger": ("trainer/logger", {"class_path": "evil.Thing"}, "'evil.Thing'"),
    "plugins": ("trainer/plugins", ["evil.Thing"], "'evil.Thing'"),
    "recogniser": ("recogniser", "evil.Thing:weights", "recogniser 'evil.Thing:weights'"),
    "recogniser-of-a-section": ("table/recogniser", "evil.Thing:weights", "table.recogniser 'evil.Thing:weights'"),
    "recogniser-interpolated": ("recogniser", "${name}", "recogniser '${name}'"),
    "metrics": ("table/metrics", [{"class_path": "evil.Thing"}], "table.metrics[0]"),
    "subcommand": ("fit", {"data": {"codec": POPEN}}, "subprocess.Popen"),
    "unknown-section": ("optimizer", "evil.Thing", "'evil.Thing'"),
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_the_config_of_a_foreign_run_starts_nothing(
    stranger: Path, attempt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place, value, words = ATTEMPTS[attempt]
    for name in ("codec.yaml", "codec"):
        Path(name).write_text("class_path: evil.Thing\n")
    edit(stranger, place, value)
    last = refused(["validate", "--ckpt_path", str(stranger)], capsys)
    assert words in last
    assert "--trust" in last
    assert "config.yaml" in last


@pytest.mark.parametrize(
    "arguments",
    [["fit"], ["validate"], ["test"], ["prepare"], SYNTHESIZE, [*SYNTHESIZE, "--system", "teacher"], ["benchmark"]],
    ids=lambda arguments: f"{arguments[0]}-{len(arguments)}",
)
@pytest.mark.parametrize("codec", [POPEN, WORKER], ids=["program", "worker"])
def test_every_command_checks_the_config(
    stranger: Path, arguments: list[str], codec: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    edit(stranger, "data/codec", codec)
    last = refused([*arguments, "--ckpt_path", str(stranger)], capsys)
    assert "--trust" in last
    assert ("subprocess.Popen" if codec is POPEN else "evil.py") in last


def change_checkpoint(file: Path, **changed: Any) -> None:
    checkpoint = torch.load(file, weights_only=True)
    for name, value in changed.items():
        checkpoint["hyper_parameters"][name] |= value
    torch.save(checkpoint, file)


CHECKPOINTS = {
    "adapter": {"backbone": {"class_path": "evil.Thing"}},
    "attribute": {"backbone": {"class_path": "wand.backbones.causal_lm.json.JSONDecoder"}},
    "divergence": {"loss": {"divergence": "evil.Thing"}},
}
OPENS: dict[str, Callable[[Path], object]] = {
    "wand.load": wand.load,
    "load_from_checkpoint": WandModule.load_from_checkpoint,
    "load_original": load_original,
    "teacher": lambda path: build_teacher(str(path), None),  # type: ignore[arg-type]
    "export": lambda path: export(path, Path("out")),
}


@pytest.mark.parametrize("attempt", CHECKPOINTS)
@pytest.mark.parametrize("name", OPENS)
def test_a_foreign_checkpoint_starts_nothing(stranger: Path, attempt: str, name: str) -> None:
    changed = CHECKPOINTS[attempt]
    for file in (stranger / "checkpoints").iterdir():
        change_checkpoint(file, **changed)
    (value,) = next(iter(changed.values())).values()
    with pytest.raises(ValueError, match=rf"'{value}'.*--trust") as error:
        OPENS[name](stranger)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("arguments", [SYNTHESIZE, ["benchmark"], ["export", "--out", "out"]], ids=lambda a: a[0])
def test_every_command_checks_the_checkpoint(
    stranger: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (stranger / "checkpoints").iterdir():
        change_checkpoint(file, **CHECKPOINTS["adapter"])
    assert "--trust" in refused([*arguments, "--ckpt_path", str(stranger)], capsys)


def test_a_foreign_teacher_starts_nothing(stranger: Path, run: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    change_checkpoint(stranger / "checkpoints" / "last.ckpt", **CHECKPOINTS["adapter"])
    options = ["fit", "--config", "quickstart", *run.fit, "--model.teacher", str(stranger)]
    last = refused([*options, "--recogniser=null", "--checkpoint.monitor=val/agreement"], capsys)
    assert "evil.Thing" in last
    assert "--trust" in last


@pytest.mark.parametrize("path", ["evil.Thing", "wand.evil.Thing", "wand.backbones.causal_lm.os.system"])
def test_a_foreign_export_starts_nothing(stranger: Path, path: str) -> None:
    export(stranger, Path("out"))
    Path("out/evil.py").write_text(EVIL)
    about = json.loads(Path("out/wand.json").read_text())
    about["backbone"]["class_path"] = path
    Path("out/wand.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"wand\.json.*--trust.*trust=True"):
        wand.load("out")


def test_modules_beside_an_artefact_replace_none(stranger: Path) -> None:
    """With the artefact's folder as current folder, also where a module of its names is not installed."""
    for name in ("torch", "yaml", "lightning", "lhotse", "flash_attn", "sitecustomize", "serve", "evil"):
        (stranger / f"{name}.py").write_text(f"open({str(Path(MARKER).absolute())!r}, 'w').close()\n")
    (stranger / "evil-1.0.dist-info").mkdir()
    (stranger / "evil-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (stranger / "evil-1.0.dist-info" / "entry_points.txt").write_text("[wand.backbones]\nThing = evil:Thing\n")
    root = str(Path(wand.__file__).parents[1])
    start = f"import sys; sys.path = [{root!r}, *sys.path[1:]]; from wand.cli import main; sys.exit(main(sys.argv[1:]))"
    made = subprocess.run(
        [sys.executable, "-c", start, "validate", "--ckpt_path", ".", "--model.window=0"],
        cwd=stranger,
        capture_output=True,
        text=True,
    )
    assert "window 0" in made.stderr


ADAPTER = """
from wand.backbones.encodec_lm import EncodecLM


class Mine(EncodecLM):
    pass


def half(teacher, student, terms):
    return (teacher.exp() * (teacher - student)).sum(-1) / 2


class Ear:
    def __init__(self, weights, device, language):
        self.name, self.language = weights, language

    def transcribe(self, sounds, sample_rate):
        return [self.name for _ in sounds]
"""


@pytest.fixture
def own(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options of a short fit with an adapter and a divergence that lie in the current folder."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != ""])
    monkeypatch.delitem(sys.modules, "my_adapter", raising=False)
    Path("my_adapter.py").write_text(ADAPTER)
    quiet = ["--recogniser=null", "--checkpoint.monitor=val/agreement", "--checkpoint.mode=max"]
    quiet.append("--trainer.logger=false")
    options = ["--config", "quickstart", *workplace.fit, *quiet, "--trainer.max_steps=2", "--table.closing.sentences=1"]
    return [*options, "--model.backbone.class_path=my_adapter.Mine", "--model.loss.divergence=my_adapter.half"]


def test_ones_own_runs_need_no_flag_and_copies_do(own: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *own]) == 0
    run = Path("runs/quickstart")
    longer = ["--trainer.max_steps=4", "--trainer.max_epochs=4", "--curriculum.accept_change=true"]
    # Changed options change the config of the run.
    assert main(["fit", "--ckpt_path", str(run), *longer, "--trainer.log_every_n_steps=2"]) == 0
    assert main(["validate", "--ckpt_path", str(run)]) == 0
    assert main(["export", "--ckpt_path", str(run), "--out", "out"]) == 0
    assert type(wand.load(run).backbone).__name__ == "Mine"
    assert WandModule.load_from_checkpoint(run).settings.loss.divergence == "my_adapter.half"

    shutil.copytree(run, "runs/copy")
    last = refused(["validate", "--ckpt_path", "runs/copy"], capsys)
    assert "'my_adapter.Mine'" in last
    assert "'my_adapter.half'" in last
    assert main(["validate", "--trust", "--ckpt_path", "runs/copy"]) == 0
    for path in ("runs/copy", "out"):
        with pytest.raises(ValueError, match=r"my_adapter\.Mine.*trust=True"):
            wand.load(path)
        assert type(wand.load(path, trust=True).backbone).__name__ == "Mine"
    with pytest.raises(ValueError, match="trust=True"):
        WandModule.load_from_checkpoint("runs/copy")
    assert WandModule.load_from_checkpoint("runs/copy", trust=True).settings.window == 8
    assert 'wand.load("out", trust=True)' in Path("out/README.md").read_text()

    # The record is of the file as it was written.
    edit(run, "data/batch_size", 2)
    assert "--trust" in refused(["validate", "--ckpt_path", str(run)], capsys)
    assert wand.load(run)  # the checkpoint is as it was
    change_checkpoint(run / "checkpoints" / "last.ckpt", loss={"divergence": "my_adapter.other"})
    with pytest.raises(ValueError, match=r"'my_adapter\.other'"):
        wand.load(run)


def test_ones_own_recogniser_needs_no_flag_and_that_of_a_copy_does(
    own: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *own, "--recogniser=my_adapter.Ear:words", "--speech.sentences=1"]) == 0
    assert "spoken, heard by words" in capsys.readouterr().out
    run = Path("runs/quickstart")
    table = json.loads((run / "closing" / "table.json").read_text())
    assert table["recogniser"] == "words"
    assert {row["speech"]["sentences"] for row in table["rows"]} == {1}
    assert main(["validate", "--ckpt_path", str(run)]) == 0
    shutil.copytree(run, "runs/copy")
    last = refused(["validate", "--ckpt_path", "runs/copy", "--recogniser=null"], capsys)
    assert "recogniser 'my_adapter.Ear:words'" in last


def test_a_fit_that_is_killed_can_be_resumed(own: list[str]) -> None:
    kill = "import os, signal\nfrom lightning.pytorch import Callback\n\n\nclass Kill(Callback):\n"
    kill += "    def on_train_batch_end(self, trainer, *a):\n"
    kill += "        if trainer.global_step == 4:\n            os.kill(os.getpid(), signal.SIGKILL)\n"
    Path("my_callback.py").write_text(kill)
    options = ["--trainer.max_steps=6", "--trainer.max_epochs=6", "--trainer.callbacks+=my_callback.Kill"]
    assert end(start(command, (["fit", *own, *options],), [{}], Path("logs"))) == [-signal.SIGKILL]
    assert main(["validate", "--ckpt_path", "runs/quickstart"]) == 0


def test_a_record_that_cannot_be_written_is_said(
    own: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("state").write_text("a file")
    monkeypatch.setenv("WAND_STATE", "state")
    with pytest.warns(UserWarning, match="cannot be recorded as your own"):
        assert main(["fit", *own]) == 0
    said = capsys.readouterr().out
    for shown in ("wand synthesize", "wand test"):
        assert any("--trust" in line for line in said.splitlines() if shown in line)


def test_a_language_is_no_file(stranger: Path) -> None:
    edit(stranger, "language", "en")
    Path("en").mkdir()
    settled, checkpoint = settle_arguments(["--ckpt_path", str(stranger)])
    assert checkpoint == stranger.absolute() / "checkpoints" / "last.ckpt"
    assert "language: en" in settled[1]


def test_trust_lasts_as_long_as_its_block() -> None:
    with trusting(), trusting(False):
        pass
    with pytest.raises(ValueError, match="no checkpoint"):
        load_backbone_and_settings("nowhere")


@pytest.mark.parametrize(
    "table",
    [BACKBONES, SOURCES, CODEC_CLASSES, METRICS, PARTS],
    ids=["adapters", "sources", "codecs", "metrics", "parts"],
)
def test_what_an_artefact_may_name_is_there(table: dict[str, str]) -> None:
    for name, module in table.items():
        found = known_class(f"{module}.{name}")
        assert found is not None
        assert (found.__module__, found.__qualname__) == (module, name)
        assert known_class(name) is found


def test_numbers_and_words_in_a_text_of_any_type_are_data() -> None:
    for text in ("[8, 5, 4, 2]", "{a: {b: silu}}", "8", "silu", "a text with spaces", "{class_path: EncodecCodec}"):
        assert named_in_value(seanet(text), Any, "data.codec") == []


def test_a_setting_of_any_type_starts_nothing(stranger: Path) -> None:
    """Also if the config is trusted."""
    popen = {"class_path": "subprocess.Popen", "init_args": {"args": f"touch {MARKER}", "shell": True}}
    Path("mine.yaml").write_text(yaml.safe_dump({"data": {"codec": seanet(popen)}}))
    with pytest.raises(ValueError, match=r"none\.th"):
        open_codec("mine.yaml")


def test_the_interpolations_of_a_foreign_run_are_not_replaced(stranger: Path) -> None:
    """Each doubles the one before: 100 lines would fill any memory."""
    edit(stranger, "a0", "x" * 64)
    for i in range(100):
        edit(stranger, f"a{i + 1}", f"${{a{i}}}${{a{i}}}")
    with pytest.raises(ValueError, match=r"a1 '\$\{a0\}.*--trust"):
        codec_of_run(stranger)


def test_all_sources_and_metrics_of_wand_may_be_named() -> None:
    """A run with one of them is no foreign code."""
    sources = {
        f"{module.__name__}.{name}"
        for found in pkgutil.iter_modules(data_sources.__path__, f"{data_sources.__name__}.")
        for module in [importlib.import_module(found.name)]
        for name, kind in vars(module).items()
        if isinstance(kind, type)
        and kind.__module__ == module.__name__
        and all(hasattr(kind, method) for method in ("utterances", "fingerprint"))
        and not getattr(kind, "_is_protocol", False)
        and not kind.__subclasses__()  # the base of those that read files
    }
    assert "wand.data.sources.parquet.ParquetCorpus" in sources
    assert [path for path in sorted({*sources, *KNOWN.values()}) if known_class(path) is None] == []


def test_the_public_names_of_codecs_may_be_used() -> None:
    assert known_class("wand.codecs.EncodecCodec") is known_class("wand.codecs.encodec.EncodecCodec")
    assert known_class("wand.WorkerCodec") is known_class("wand.codecs.worker.WorkerCodec")


@pytest.mark.parametrize("path", ["", ".", "wand", "WandModule", "wan.WorkerCodec", "x.WorkerCodec", None, 3, ["a"]])
def test_any_other_path_is_unknown(path: Any) -> None:
    assert known_class(path) is None


def test_the_code_of_a_tokenizer_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is there a question."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("wand asked a question"))
    config = {"tokenizer_class": "Thing", "auto_map": {"AutoTokenizer": ["evil.Thing", "evil.Thing"]}}
    files = {"tokenizer_config.json": json.dumps(config).encode(), "evil.py": EVIL.encode()}
    with pytest.raises(ValueError, match="no tokenizer can be built"):
        TextTokenizer.from_files(files)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    model = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Thing", "AutoModelForCTC": "evil.Thing"}}
    (tmp_path / "config.json").write_text(json.dumps(model))
    with pytest.raises(ValueError, match="cannot be opened"):
        PretrainedRecogniser(str(tmp_path))
    assert not Path(MARKER).exists()
