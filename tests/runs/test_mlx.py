"""The script of docs/serving.md for MLX: an export speaks in mlx-lm what wand speaks under the window."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import wand
from tests.backbones.test_causal_lm import CODES, make_model, voice
from tests.runs.test_export import save_run
from wand.attention import AttentionWindow
from wand.decoding.decoder import Decoder
from wand.model.batch import make_batch
from wand.model.sampling import Sampling
from wand.runs.export import export
from wand.speech.speaking import SpeakOptions
from wand.speech.synthesizer import Synthesizer

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
SCRIPT = "speak_with_mlx.py"
WINDOW = 8
# Ids of the prompt: fewer than the window, as many, more; more than the cache grows at once (256); more than one pass
# of the prefill takes (2048).
LENGTHS = (1, 5, 8, 33, 300, 2100)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("mlx_lm") is None, reason="mlx-lm is not installed (make test-integrations)"),
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a random Llama with heads of 32, whose attention changes what it says."""
    folder = tmp_path_factory.mktemp("mlx")
    model = make_model(folder / "original", "llasa", tied=False, hidden_size=128, initializer_range=0.2)
    assert model.key_value_shape.key_width == 32
    export(save_run(model, folder / "run", WINDOW), folder / "exported")
    return folder / "exported"


@pytest.fixture(scope="module")
def student(exported: Path) -> Synthesizer:
    return wand.load(exported)


@pytest.fixture(scope="module")
def speak(exported: Path) -> Callable[..., Iterator[int]]:
    """The function of the page, with the exported model opened by mlx-lm."""
    from mlx_lm import load

    (text,) = re.findall(rf'```python title="{SCRIPT}"\n(.*?)```', PAGE.read_text(), re.DOTALL)
    script = exported.parent / SCRIPT
    script.write_text(text)
    speech_ids: Callable[..., Iterator[int]] = runpy.run_path(str(script))["speech_ids"]
    model: Any = load(str(exported))[0]
    return lambda *arguments, **others: speech_ids(model, *arguments, **others)


def prompt_of(student: Synthesizer, length: int) -> dict[str, torch.Tensor]:
    """A prompt of random ids."""
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(student.backbone.decoder.config.vocab_size, (length,), generator=generator)
    return {"ids": ids, "text": torch.tensor([0, length])}


@torch.inference_mode()
def stepwise(student: Synthesizer, prompt: dict[str, torch.Tensor], window: int | None, columns: int) -> list[int]:
    """Ids of greedy steps with wand's own cache. No step draws a stop."""
    backbone = student.backbone
    decoder = Decoder(backbone, AttentionWindow(window), body="transformers")
    hidden, cache = decoder.prefill(make_batch(backbone.conditioner, backbone.layout, [prompt], [torch.zeros(1, 0)]))
    spoken = []
    for _ in range(columns):
        row = backbone.speech_head().logits(hidden)[0, 0, :CODES].argmax()
        spoken.append(int(backbone.speech_ids[row]))
        hidden = decoder.step(cache, row.view(1, 1))
    return spoken


@pytest.mark.parametrize("length", LENGTHS)
def test_greedy_ids_are_those_under_the_window(
    student: Synthesizer, speak: Callable[..., Iterator[int]], length: int
) -> None:
    """Over seven windows. Full attention says something else, so equal ids mean an equal window."""
    prompt = prompt_of(student, length)
    columns = 7 * WINDOW
    codes = student.backbone.speech_ids[:CODES].tolist()
    spoken = list(speak(prompt["ids"].tolist(), WINDOW, codes, [], columns))
    assert spoken == stepwise(student, prompt, WINDOW, columns)
    assert spoken != stepwise(student, prompt, None, columns)
    assert len(set(spoken[WINDOW:])) > 1


def test_a_window_wider_than_a_step_of_the_cache(student: Synthesizer, speak: Callable[..., Iterator[int]]) -> None:
    """The cache of mlx-lm grows by 256 columns at a time until it is full."""
    prompt = prompt_of(student, 20)
    codes = student.backbone.speech_ids[:CODES].tolist()
    assert list(speak(prompt["ids"].tolist(), 300, codes, [], 640)) == stepwise(student, prompt, 300, 640)


def test_stops_end_the_speech_as_in_wand(student: Synthesizer, speak: Callable[..., Iterator[int]]) -> None:
    ids = student.backbone.speech_ids.tolist()
    stops = [ids[row] for row in student.backbone.stop_ids]
    for text in ("hello.", "no", "every word is heard"):
        reference = voice("llasa")
        (speech,) = student.generate(text, reference, SpeakOptions(Sampling(temperature=0), max_seconds=1.2))
        prompt = student.backbone.conditioner(text, reference)["ids"].tolist()
        assert list(speak(prompt, WINDOW, ids[:CODES], stops, 60)) == [ids[code] for code in speech.codes[0]]
