"""Lets the systems of a run speak, and several recognisers listen: ``python -m benchmarks.ablations.hearing RUN``.

All recognisers hear the same speech. Agreement, KL and cross-entropy are those of recorded speech, under the final
window. ``RUN/heard`` gets ``figures.json`` and ``takes.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.processor import machine
from wand.benchmark.cost import cache_bytes
from wand.cli.configs import build_section
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.console.progress import Progress, progress
from wand.data.batching import BatchLoader
from wand.data.datamodule import SpeechDataModule
from wand.data.example import Example
from wand.data.shards import ShardedExamples
from wand.decoding.decoder import Decoder
from wand.evaluation.prediction import PredictionTest
from wand.evaluation.quality import Take, error_rate, judge
from wand.evaluation.systems import ComparedSystem, compared_systems
from wand.evaluation.takes import speak_examples, speakable
from wand.evaluation.voices import ReferenceVoices
from wand.files.writing import write_text
from wand.model.backbone import Backbone
from wand.recognition import Recogniser, open_recogniser
from wand.runs.checkpoints import load_backbone_and_settings, load_original, setting_of_run
from wand.speech.speaking import sounds_of
from wand.version import __version__

FIGURES = Path("heard") / "figures.json"
TAKES = Path("heard") / "takes.jsonl"
SYSTEMS = ("teacher", "untrained", "student")
# Seconds of speech for which the bytes of the cache are computed.
SECONDS = 10.0


def data_of(run: Path) -> SpeechDataModule:
    """The data of a run."""
    values = setting_of_run(run, "data", SpeechDataModule)
    if values is None:
        raise ValueError(f"{run} has no config.yaml with its data")
    data: SpeechDataModule = build_section("data", values)
    return data


def measure(
    run: Path, data: SpeechDataModule, names: Sequence[str], ears: Sequence[Recogniser], takes: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure the systems of a run.

    Args:
        run: The run folder.
        data: Its test split is spoken.
        names: Names of the systems, from `SYSTEMS`.
        ears: The recognisers.
        takes: Takes of every sentence, each with its own seed.

    Returns:
        The figures by system, and all takes as plain values.
    """
    student, settings = load_backbone_and_settings(run)
    original = load_original(run)
    codec = original.find_codec()
    if codec is None:
        raise ValueError(f"the model of {run} has no codec, so it cannot be heard")
    cache = data.prepare_for(original)
    examples = ShardedExamples(cache.files("test"), cache.fingerprint)
    window = student.windows(settings.window)
    models = {system: student if system.weights == "student" else original for system in compared_systems(window, True)}
    means = _predict(models, examples, data)
    prefix = sorted(original.conditioner.length(example.conditioning) for example in examples)[len(examples) // 2]
    voices = ReferenceVoices(data.source, codec)
    chosen = speakable(examples, voices, ears[0].language)
    figures, spoken = {}, []
    with progress("speaking", len(names) * takes * len(chosen), "sentences") as shown:
        for system, model in models.items():
            if system.name not in names:
                continue
            own: dict[str, list[Take]] = {ear.name: [] for ear in ears}
            for seed in range(takes):
                before = shown.done
                tell = partial(_show, shown, before, system.name)
                for name, heard in _takes(model, system, codec, ears, chosen, voices, seed, tell).items():
                    own[name] += heard
                tell(len(chosen))
            figures[system.name] = {
                "window": system.window.plain,
                "ce": means[system.name]["ce"],
                "agreement": means[system.name]["agreement"],
                "kl": means[system.name]["kl"],
                "kv_bytes": cache_bytes(model, prefix, SECONDS, system.window),
                "heard": {name: _rates(heard) for name, heard in own.items()},
            }
            for name, heard in own.items():
                spoken += [{"system": system.name, "recogniser": name, **asdict(take)} for take in heard]
    return figures, spoken


def _predict(
    models: dict[ComparedSystem, Backbone], examples: ShardedExamples, data: SpeechDataModule
) -> dict[str, dict[str, float]]:
    """Cross-entropy, agreement and KL on recorded speech."""
    weights = {system: (lambda model=model: nullcontext(model)) for system, model in models.items()}
    test = PredictionTest(weights)
    model = next(iter(models.values()))
    lengths = examples.lengths(model.layout)
    for batch in BatchLoader(examples, lengths, model.conditioner, model.layout, data.bounds, shuffle=False):
        test.update(batch.to(model.device))
    return test.means()


def _takes(
    model: Backbone,
    system: ComparedSystem,
    codec: Codec,
    ears: Sequence[Recogniser],
    examples: Sequence[Example],
    voice: Callable[[Example], Reference | None],
    seed: int,
    on_done: Callable[[int], object],
) -> dict[str, list[Take]]:
    """One take of every sentence, as each recogniser hears it."""
    spoken = speak_examples(Decoder(model, system.window), codec, examples, seed=seed, on_done=on_done)
    said, codes = [example.conditioning for example in examples], [one.codes for one in spoken]
    sounds = sounds_of(model, codec, system.window, said, codes, [voice(example) for example in examples])
    return {
        ear.name: [
            judge(example, one, text, seed, model.frame_rate, ear.language)
            for example, one, text in zip(examples, spoken, ear.transcribe(sounds, codec.sample_rate), strict=True)
        ]
        for ear in ears
    }


def _show(shown: Progress, before: int, name: str, done: int) -> None:
    shown.update(before + done, name)


def _rates(takes: Sequence[Take]) -> dict[str, float | None]:
    """CER and WER over all letters and words; no WER in languages without blanks between words."""
    words = sum(take.words for take in takes)
    return {"cer": error_rate(takes), "wer": sum(take.wrong_words for take in takes) / words if words else None}


@torch.inference_mode()
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--data", type=Path, help="run folder whose test split is spoken (default: the run)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS, help="systems (default: all)")
    parser.add_argument("--recognisers", nargs="+", default=["embedded"], help="as in wand test (default: embedded)")
    parser.add_argument("--takes", type=int, default=2, help="takes of every sentence (default: 2)")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    data = data_of(given.data or given.run)
    ears = [open_recogniser(name) for name in given.recognisers]
    figures, spoken = measure(given.run, data, given.systems, ears, given.takes)
    about = {
        "recognisers": {name: ear.name for name, ear in zip(given.recognisers, ears, strict=True)},
        "takes": given.takes,
        "sentences": len({take["id"] for take in spoken}),
        "systems": figures,
        "seconds": time.monotonic() - began,
        "date": date.today().isoformat(),
        "machine": f"{machine()}; wand {__version__}",
    }
    write_text(given.run / TAKES, "".join(json.dumps(take, ensure_ascii=False) + "\n" for take in spoken))
    write_text(given.run / FIGURES, json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
