"""Windows and lengths of speech: batches, streams and rows equal each text alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from tests.conftest import TINY, random_codes, sharpened
from tests.fuzz.harness import Case, Group
from tests.fuzz.values import NOT_POSITIVE, NOT_SEEDS, NOT_WHOLE_POSITIVE, SEEDS, text_of
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.decoding.sampler import Sampler
from wand.model.batch import make_batch
from wand.speech.speaking import SpeakOptions, Speech
from wand.speech.streaming import SoundChunk
from wand.speech.synthesizer import Synthesizer


class Beeps(Codec):
    """A causal codec that needs no weights: each frame is 4 samples, a function of its codes."""

    sample_rate = 200
    frame_rate = 50.0
    num_codebooks = TINY.num_codebooks
    codebook_size = TINY.codebook_size
    causal = True

    @property
    def fingerprint(self) -> str:
        return "beeps"

    def encode(self, audio: Tensor, sample_rate: int) -> Tensor:
        return (audio[:, :, ::4].abs() * 8).long().clamp(0, 15).expand(-1, self.num_codebooks, -1)

    def decode(self, codes: Tensor, reference: Reference | None = None) -> Tensor:
        return (codes.float().mean(1, keepdim=True) / 16).repeat_interleave(4, dim=-1)

    def to(self, device: torch.device | str) -> Self:
        return self


class SpeechGroup(Group):
    """Texts of any number and length, spoken under any window, in any number of rows, as a whole and as a stream."""

    name = "speech"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        torch.manual_seed(0)
        self.lm = sharpened(EncodecLM(architecture=TINY)).eval().double()  # so that no rounding changes a token
        self.codec = Beeps()

    def synthesizer(self, window: Any) -> Synthesizer:
        return Synthesizer(self.lm, self.lm.windows(window), self.codec)

    def reference(self, random: random.Random) -> Reference:
        torch.manual_seed(random.randrange(2**32))
        return Reference(random_codes(self.lm, random.randint(1, 12)))

    def valid(self, random: random.Random) -> Case:
        window = random.choice([None, 4, random.randint(4, 40), 1000, [random.randint(4, 9), random.randint(10, 30)]])
        options = SpeakOptions(
            seed=random.choice([*SEEDS, random.randrange(2**31)]),
            max_seconds=random.choice([0.02, random.uniform(0.02, 0.8), 1]),
            rows=random.choice([1, 2, 3, 8, 10**6]),
            long_text=random.choice(["auto", "auto", "whole", "split"]),
            first_seconds=random.choice([1e-9, 0.02, 0.1, 100]),
            chunk_seconds=random.choice([1e-9, 0.06, 0.3, 100]),
        )
        texts = [text_of(random) for _ in range(random.choice([1, 1, 2, 3, 5]))]
        reference, model = self.reference(random), self.synthesizer(window)
        if len(texts) == 1 and random.random() < 0.7:
            return Case(
                f"stream {texts} with {options}, window {window}",
                lambda: list(model.stream(texts[0], reference, options)),
                lambda parts: _check_stream(parts, self.alone(texts, reference, window, options)[0]),
            )
        return Case(
            f"speak {texts} with {options}, window {window}",
            lambda: model.generate(texts, reference, options),
            lambda spoken: self._check(spoken, texts, reference, window, options),
        )

    def alone(
        self, texts: Sequence[str], reference: Reference, window: Any, options: SpeakOptions
    ) -> list[tuple[Tensor, Tensor]]:
        """Codes and sound of every text, each spoken alone."""
        sizes = window if isinstance(window, list) else [window] * TINY.num_layers
        said = [self._speak_alone(text, reference, sizes, options, options.seed + i) for i, text in enumerate(texts)]
        return [(codes, self.codec.decode(codes[None])[0, 0] if codes.numel() else torch.zeros(0)) for codes in said]

    @torch.inference_mode()
    def _speak_alone(
        self, text: str, reference: Reference, sizes: Sequence[int | None], options: SpeakOptions, seed: int
    ) -> Tensor:
        """A plain loop without a cache: every column is computed from all columns before it."""
        lm, delay = self.lm, TINY.num_codebooks - 1
        batch = make_batch(lm.conditioner, lm.layout, [lm.conditioner(text, reference)])
        attention = PlainAttention(sizes, batch.prefix_length)
        sampler = Sampler(lm.sampling, [(seed + 2**63) % 2**64 - 2**63], lm.forbidden_tokens())
        stop, filler = TINY.codebook_size, TINY.codebook_size + 1
        frames, longest = None, round(options.max_seconds * TINY.frame_rate)
        columns: list[list[int]] = []
        while frames is None or len(columns) < frames + delay:
            if len(columns) == longest + delay:
                frames = longest
                break
            batch.columns = torch.tensor(columns, dtype=torch.long).view(1, len(columns), TINY.num_codebooks)
            hidden = lm.hidden_states(batch, attention)[:, -1]
            tokens = lm.speech_head().draw(hidden, sampler)[0].tolist()
            step = len(columns)
            if frames is None and tokens[0] == stop:
                frames = step
            ends = longest if frames is None else frames
            columns.append(
                [t if k <= step < ends + k or (frames is None and k <= step) else filler for k, t in enumerate(tokens)]
            )
        codes = [[column[k] for column in columns[k : k + frames]] for k in range(TINY.num_codebooks)]
        return torch.tensor(codes, dtype=torch.long).view(TINY.num_codebooks, frames)

    def _check(
        self, spoken: Any, texts: Sequence[str], reference: Reference, window: Any, options: SpeakOptions
    ) -> None:
        assert [one.text for one in spoken] == list(texts)
        for one, (codes, audio) in zip(spoken, self.alone(texts, reference, window, options), strict=True):
            assert isinstance(one, Speech)
            assert torch.equal(one.codes, codes), "the codes of the text alone"
            assert torch.allclose(one.audio, audio), "the sound of the text alone"

    def invalid(self, random: random.Random) -> Case:
        reference = self.reference(random)
        kind = random.choice(["option", "option", "option", "window", "text", "reference", "rows"])
        if kind == "option":
            name = random.choice(
                ["seed", "max_seconds", "rows", "first_seconds", "chunk_seconds", "long_text", "sampling"]
            )
            value = _bad_option(name, random)
            return Case(f"SpeakOptions({name}={value!r})", lambda: self._speak(reference, {name: value}), names=(name,))
        if kind == "window":
            window = random.choice(
                [0, -1, 2, 1, 2.5, "wide", True, [8], [8, 8, 8], [], [0, 8], [None, 8], float("nan")]
            )
            return Case(
                f"window {window!r}",
                lambda: self.synthesizer(window).generate("yes", reference, SpeakOptions(max_seconds=0.2)),
                names=("window",),
            )
        if kind == "text":
            text = random.choice(["", " ", "\n\t", "\u4f60\u597d", "9", 5, None, b"yes"])
            names = ("text",)
            return Case(f"text {text!r}", lambda: self._speak(reference, {}, text), names=names)
        if kind == "reference":
            codes = random.choice(
                [
                    torch.zeros(3, 0, dtype=torch.long),
                    torch.full((3, 5), TINY.codebook_size + 5),
                    torch.full((3, 5), -1),
                    torch.zeros(2, 5, dtype=torch.long),
                    torch.zeros(5, dtype=torch.long),
                    torch.full((3, 5), float("nan")),
                ]
            )
            return Case(
                f"reference {tuple(codes.shape)} {codes.flatten()[:1]}",
                lambda: self._speak(Reference(codes), {}),
                names=("reference",),
            )
        rows = random.choice([0, -1, 2.5, "2"])
        return Case(f"rows {rows!r}", lambda: self._speak(reference, {"rows": rows}), names=("rows",))

    def _speak(self, reference: Any, options: dict[str, Any], text: Any = "yes") -> list[Speech]:
        return self.synthesizer(8).generate(text, reference, SpeakOptions(**{"max_seconds": 0.2, **options}))


class PlainAttention:
    """The attention of every layer by its definition: prefix, then the newest columns of the speech.

    Args:
        sizes: The window of each layer; None is full attention.
        boundary: P.
    """

    def __init__(self, sizes: Sequence[int | None], boundary: int) -> None:
        self.sizes = sizes
        self.boundary = boundary

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None) -> Tensor:
        heads, columns, width = query.shape[1:]
        size, boundary = self.sizes[layer] or columns, self.boundary
        seen = torch.tensor(
            [[j <= i and (j < boundary or j > i - size) for j in range(columns)] for i in range(columns)]
        )
        key, value = (part.repeat_interleave(heads // part.shape[1], dim=1) for part in (key, value))
        scores = query @ key.transpose(-1, -2) * (width**-0.5 if scaling is None else scaling)
        return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value).transpose(1, 2)


def _check_stream(parts: Any, alone: tuple[Tensor, Tensor]) -> None:
    assert all(isinstance(part, SoundChunk) for part in parts)
    assert [part.reason is None for part in parts] == [True] * (len(parts) - 1) + [False]
    assert torch.equal(torch.cat([part.codes for part in parts], dim=1), alone[0]), "the codes of the text alone"
    assert torch.allclose(torch.cat([part.audio for part in parts]), alone[1]), "the sound of the text alone"


def _bad_option(name: str, random: random.Random) -> Any:
    if name == "long_text":
        return random.choice(["yes", 2, None, 0.5])
    if name == "sampling":
        return random.choice([0.9, "greedy", {"temperature": 0.9}])
    return random.choice({"seed": NOT_SEEDS, "rows": NOT_WHOLE_POSITIVE}.get(name, NOT_POSITIVE))
