"""Two processes that share the sounds compute what one process computes from all of them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed
from torchmetrics import Metric

from tests.metrics.sounds import RATE, silence, voice
from tests.processes import as_torchrun, end, start
from wand.metrics import CodecFidelity, ErrorRates, RecordingDistances, SpeakerSimilarity
from wand.metrics.recorded.cepstra import mel_cepstra

TEXTS = ("red sky", "tree", "far from home", "...", "river")
HEARD = {110: "red ski", 130: "tree", 150: "far form home", 170: "", 190: "river river"}
WRONG_LETTERS, LETTERS, WRONG_WORDS, WORDS = 1 + 0 + 2 + 6, 7 + 4 + 13 + 5, 1 + 0 + 1 + 1, 2 + 1 + 3 + 1


class Ear:
    """Knows by the length of a sound what is said."""

    name = "ear"
    language = "en"

    def transcribe(self, sounds, sample_rate):
        return [HEARD[len(sound) // 150] for sound in sounds]


def sounds() -> list[tuple[Tensor, Tensor]]:
    """Speech and recordings of five sentences."""
    made = []
    for hertz in HEARD:
        spoken, recorded = (voice(torch.linspace(hertz, to, 150 * hertz), noise=0.01) for to in (1.3 * hertz, hertz))
        made.append((spoken, torch.cat([silence(0.1), recorded])))
    return made


def mean_envelope(sound: Tensor, sample_rate: int) -> Tensor:
    """An `Embedder`."""
    return mel_cepstra(sound, sample_rate).mean(0)


def figures(chosen: slice) -> dict[str, float]:
    """What the metrics compute in this process, from some of the sentences."""
    spoken, recorded = map(list, zip(*sounds()[chosen], strict=True))
    metrics: list[Metric] = [ErrorRates(Ear()), RecordingDistances(), SpeakerSimilarity(mean_envelope)]
    metrics[0].update(spoken, RATE, TEXTS[chosen])
    metrics[1].update(spoken, recorded, RATE)
    metrics[2].update(spoken, recorded, RATE)
    found = {**metrics[0].compute(), **metrics[1].compute(), "similarity": metrics[2].compute()}
    if find_spec("pystoi"):
        fidelity = CodecFidelity()
        fidelity.update(spoken, [sound[1600:] for sound in recorded], RATE)
        found |= fidelity.compute()
    return {name: float(value) for name, value in found.items()}


def work(rank: int) -> None:
    """What one of two processes computes; it writes it into a file."""
    distributed.init_process_group("gloo")
    found = figures(slice(rank, None, 2))
    Path(f"{rank}.json").write_text(json.dumps(found))
    distributed.destroy_process_group()


def test_two_processes_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert end(start(work, [], as_torchrun(), tmp_path / "log")) == [0, 0], (tmp_path / "log/0.txt").read_text()
    wanted = figures(slice(None))
    assert wanted["cer"] == pytest.approx(WRONG_LETTERS / LETTERS)
    assert wanted["wer"] == pytest.approx(WRONG_WORDS / WORDS)
    assert wanted["f0"] > 0.5
    for rank in range(2):
        assert json.loads(Path(f"{rank}.json").read_text()) == pytest.approx(wanted, rel=1e-5)
