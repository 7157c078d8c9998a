"""Export a student in the format of its original model: ``wand export``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from wand.files.writing import write_text
from wand.lora import write_adapter
from wand.model.backbone import Backbone
from wand.model.causal_lm import CausalLM
from wand.runs.checkpoints import (
    ABOUT,
    LAST,
    best_checkpoint,
    find_checkpoint,
    load_backbone_and_settings,
    open_run,
    read_checkpoint,
    run_folder,
)
from wand.runs.named_code import named_by_checkpoint
from wand.runs.settings import RunSettings, flat_settings
from wand.runs.speech_facts import NAME as SPEECH_FACTS
from wand.runs.speech_facts import write_for_engines
from wand.version import __version__

CARD = "README.md"
PREFIX_RULE = (
    "Every step sees all columns of the prefix and the last `window` columns of the speech, including its own. Columns "
    "of the prefix see themselves and the columns before them."
)
_CARD = """# {name}, adapted to windowed attention

Made by [WAND](https://arxiv.org/abs/2604.08558) from the original weights {original}. Every step sees the whole prefix
(text, reference) and the newest part of the speech (**{window}**). The size of the cache is constant.

```python
import wand

model = wand.load("{folder}"{trust})  # pass codec=... if the adapter provides no codec
(speech,) = model.generate("The text to speak.", reference="voice.wav", reference_text="The transcript of voice.wav.")
```

**Without its window** (in the program of the original model, or with transformers' `generate` on these files) the model
runs in a way that it was not trained for, and saves no memory or time.

| | |
|---|---|
| backbone | `{backbone}` |
| window | {window} |
| training | {steps} steps; {settings} |
| best checkpoint by | {monitor} |
| files | the format of the original; `{about}` has the window, the prefix rule and digests |
{engines}
Licence: {licence}
{table}"""

_ENGINES = "| serving engines | vLLM and others open `{model}`; `{facts}` has the token ids of the speech |\n"

_ADAPTER_CARD = """# An adapter (LoRA) of {name} for windowed attention

Made by [WAND](https://arxiv.org/abs/2604.08558) for the original weights `{original}`, whose digest is `{digest}`.
It was trained for a window of **{window}**, and needs it:

{rule}

Licence: {licence}
"""


def export(checkpoint: str | Path, out: Path, dtype: torch.dtype | None = None, causal_lm: bool = False) -> Backbone:
    """Write the student of a run in the format of its original model, with ``wand.json`` and a model card.

    If a serving engine can open the model, ``speech.json`` describes it (docs/serving.md).

    Args:
        checkpoint: Run folder (uses its best checkpoint), checkpoint file, or ``last``.
        out: Folder to write; must be new or empty.
        dtype: The dtype of the weights; that of the original weights by default.
        causal_lm: Also write the model as a causal language model of transformers over one vocabulary.

    Raises:
        ValueError: If the folder is not empty, the run has no window, or the model is no causal language model over
            token ids, or is written as one anyway.
    """
    chosen = _chosen(checkpoint, out)
    backbone, settings = load_backbone_and_settings(chosen)
    window = settings.window
    if window is None:
        raise ValueError(f"the run {checkpoint} has no window (model.window null): there is nothing to export")
    model = _engine_model(backbone, causal_lm)
    backbone.save_pretrained(out, dtype)
    if model is not None:
        write_for_engines(backbone, model, backbone.windows(window), out, dtype)
    backbone.pretrained = str(out)
    about = {
        "wand": __version__,
        "window": window,
        "prefix_rule": PREFIX_RULE,
        "backbone": backbone.spec(),
        "files": sorted(backbone.files),
        "training": _training(read_checkpoint(chosen), settings),
        "digest": backbone.pretrained_digest(),
    }
    engines = "" if model is None else _ENGINES.format(facts=SPEECH_FACTS, model=model.folder)
    write_text(out / CARD, _card(backbone, about, out, run_folder(chosen), engines))
    write_text(out / ABOUT, json.dumps(about, indent=2) + "\n")  # last: a folder with it is complete
    return backbone


def export_adapter(checkpoint: str | Path, out: Path, dtype: torch.dtype | None = None) -> None:
    """Write the adapters (LoRA) of a run in peft's format, with a model card. The original weights are not needed.

    Args:
        checkpoint: As for `export`.
        out: Folder to write; must be new or empty.
        dtype: The dtype of the adapters; float32 by default.

    Raises:
        ValueError: If the folder is not empty, or the run has no adapters or no window.
    """
    run = open_run(_chosen(checkpoint, out))
    backbone, window, lora = run.backbone, run.settings.window, run.settings.lora
    if lora is None:
        raise ValueError(f"the run {checkpoint} has no adapter (model.lora null): export it without --adapter")
    if window is None:
        raise ValueError(f"the run {checkpoint} has no window (model.window null): there is nothing to export")
    original = run.checkpoint["hyper_parameters"]["pretrained"]
    adapter = {name.removeprefix("decoder."): tensor for name, tensor in run.trained.items()}
    write_adapter(adapter, backbone.decoder, lora, out, body=backbone.body, original=original, dtype=dtype)
    card = _ADAPTER_CARD.format(
        name=type(backbone).__name__,
        original=Path(original).name,
        digest=run.checkpoint["wand"]["pretrained_digest"],
        window=_window_in_words(window, backbone.columns_per_second),
        rule=PREFIX_RULE,
        licence=backbone.licence,
    )
    write_text(out / CARD, card)


def _chosen(checkpoint: str | Path, out: Path) -> Path:
    """The checkpoint to export to a new or empty folder."""
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty: give a new folder")
    found = find_checkpoint(checkpoint)
    run = Path(checkpoint) if str(checkpoint) != LAST else run_folder(found) or found
    best = best_checkpoint(run) if (run / "checkpoints").is_dir() else found
    if best is None:
        print(f"wand: {run} has no best checkpoint: its last one is exported", file=sys.stderr)
    return best or found


def _engine_model(backbone: Backbone, separate: bool) -> CausalLM | None:
    """The model that engines open in the export; None if it has none.

    Args:
        backbone: The student.
        separate: Whether to write the model beside the files of the original.
    """
    model = backbone.causal_lm()
    if separate and model is None:
        raise ValueError(
            f"{type(backbone).__name__} is no causal language model over token ids: export it without --causal_lm"
        )
    if separate and model is not None and model.write is None:
        raise ValueError(
            f"{type(backbone).__name__} is exported as a causal language model in any case: leave out --causal_lm"
        )
    return model if model is not None and separate == (model.write is not None) else None


def _training(checkpoint: dict[str, Any], settings: RunSettings) -> dict[str, Any]:
    """How the student was trained."""
    monitored = {
        state["monitor"]: float(state["best_model_score"])
        for state in checkpoint.get("callbacks", {}).values()
        if isinstance(state, dict) and state.get("monitor") and state.get("best_model_score") is not None
    }
    return {
        "original": checkpoint["hyper_parameters"]["pretrained"],
        "original_digest": checkpoint["wand"]["pretrained_digest"],
        "steps": checkpoint["global_step"],
        "best": monitored,
        "settings": settings.to_plain(),
    }


def _window_in_words(window: int | list[int], columns_per_second: float) -> str:
    if isinstance(window, int):
        return f"{window} columns, {window / columns_per_second:.2f} s"
    return f"by layer, in columns: {', '.join(map(str, window))}"


def _card(backbone: Backbone, about: dict[str, Any], out: Path, run: Path | None, engines: str) -> str:
    training, window = about["training"], about["window"]
    tables = [] if run is None else [run / name / "table.md" for name in ("test", "closing")]
    table = next((path.read_text().strip() for path in tables if path.is_file()), None)
    settings = flat_settings(training["settings"])
    shown = ("optimizer.learning_rate", "loss.ce_weight", "loss.kd_weight", "loss.skew", "loss.temperature")
    return _CARD.format(
        name=type(backbone).__name__,
        original="(random)" if training["original"] is None else f"`{Path(training['original']).name}`",
        window=_window_in_words(window, backbone.columns_per_second),
        folder=out.name,
        trust=", trust=True" if named_by_checkpoint(about["backbone"], {}) else "",
        backbone=about["backbone"]["class_path"],
        steps=training["steps"],
        settings=", ".join(f"{name} {settings[name]:g}" for name in shown),
        monitor=", ".join(f"{name} {value:.4g}" for name, value in training["best"].items()) or "not chosen",
        about=ABOUT,
        engines=engines,
        licence=backbone.licence,
        table="" if table is None else f"\n## Test\n\n{table}\n",
    )
