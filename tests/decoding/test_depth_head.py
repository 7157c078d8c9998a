"""A head that draws each codebook given those before it, defined outside wand: it speaks, and a fit trains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tests.conftest import TINY
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.codecs.reference import Reference
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate
from wand.decoding.sampler import Sampler
from wand.decoding.stopping import StopRules
from wand.distillation.chunked import LossSums
from wand.distillation.losses import IGNORE, agreement, cross_entropy, skew_kl
from wand.distillation.terms import LossTerms
from wand.model.batch import make_batch
from wand.model.heads import Head, HeadInput, Pick
from wand.model.sampling import RepetitionAware, Sampling
from wand.training.module import WandModule
from wand.training.teacher import FrozenTeacher


class DepthHead(Head):
    """Adds an embedding of the tokens drawn so far before every codebook but the first."""

    def __init__(self, weight: Tensor, embedding: Tensor) -> None:
        self.weight, self.embedding = weight, embedding

    @property
    def weights(self) -> Sequence[Tensor]:
        return [self.weight, self.embedding]

    def codebook(self, hidden: Tensor, k: int, before: Tensor) -> Tensor:
        """Logits ``[..., V]`` of codebook k, given tokens ``[..., k]``."""
        for j in range(k):
            hidden = hidden + self.embedding[j, before[..., j]]
        return hidden.tanh() @ self.weight[k].T

    def logits(self, hidden: Tensor, columns: Tensor | None = None) -> Tensor:
        assert columns is not None
        known = columns.clamp(min=0)
        return torch.stack([self.codebook(hidden, k, known[..., :k]) for k in range(len(self.weight))], dim=-2)

    def loss(
        self, hidden: Tensor, labels: Tensor, label_weights: Tensor, terms: LossTerms, teacher: HeadInput | None = None
    ) -> LossSums:
        logits, weights = self.logits(hidden, labels), label_weights * (labels != IGNORE)
        ce = (cross_entropy(logits, labels) * weights).sum()
        assert teacher is not None
        expected = teacher.logits(labels)
        kd = (skew_kl(logits, expected, terms.skew) * weights).sum()
        agreed = (agreement(logits, expected) * weights).sum()
        return LossSums(terms.ce_weight * ce + terms.kd_weight * kd, ce.detach(), kd.detach(), kd.detach(), agreed)

    def draw(self, hidden: Tensor, pick: Pick) -> Tensor:
        tokens = torch.zeros(len(hidden), 0, dtype=torch.long)
        for k in range(len(self.weight)):
            tokens = torch.cat([tokens, pick(self.codebook(hidden, k, tokens)[:, None], first=k)], dim=1)
        return tokens

    def to(self, dtype: torch.dtype) -> Self:
        return type(self)(self.weight.to(dtype), self.embedding.to(dtype))


class DepthLM(EncodecLM):
    """The embedded voice's kind with such a head."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        shape = (self.num_codebooks, self.speech_vocab_size, self.shape.hidden_size)
        self.depth = nn.Parameter(torch.randn(shape))

    def speech_head(self) -> DepthHead:  # type: ignore[override]
        return DepthHead(self.head, self.depth)


def model() -> DepthLM:
    torch.manual_seed(0)
    lm = DepthLM(architecture=TINY)
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return lm.eval()


@torch.no_grad()
def brute_force(lm: DepthLM, text: str, voice: Reference, window: AttentionWindow, seed: int, steps: int) -> Tensor:
    """Everything again for every column; the head is asked for one codebook at a time."""
    batch = make_batch(lm.conditioner, lm.layout, [lm.conditioner(text, voice)])
    sampler = Sampler(lm.sampling, [seed], lm.forbidden_tokens())
    sampler.prepare(lm.num_codebooks, lm.speech_vocab_size)
    columns = torch.zeros(1, 0, lm.num_codebooks, dtype=torch.long)
    for step in range(steps):
        given = replace(batch, columns=columns, lengths=torch.tensor([step]))
        hidden = lm.head_input(given, window).hidden[:, -1]
        tokens: list[int] = []
        for k in range(lm.num_codebooks):
            before = torch.tensor([tokens], dtype=torch.long).view(1, k)
            tokens.append(int(sampler(lm.speech_head().codebook(hidden, k, before)[:, None], first=k)))
        settled = lm.layout.settle(torch.tensor([tokens]), torch.tensor([step]), torch.tensor([10**6]))
        sampler.remember(settled)
        columns = torch.cat([columns, settled[:, None]], dim=1)
    return columns[0]


def test_speech_is_that_of_a_plain_loop() -> None:
    lm = model()
    lm.sampling = Sampling(temperature=0.8, top_k=9, repetition_penalty=1.2, repetition=RepetitionAware(4, 0.5))
    lm.stop_ids = ()  # so that every decode is as long as asked
    voice = Reference(torch.arange(12).view(3, 4))
    window = AttentionWindow(5)
    for seed in (0, 3):
        batch = make_batch(lm.conditioner, lm.layout, [lm.conditioner("hello", voice)])
        (spoken,) = generate(Decoder(lm, window), batch, rules=StopRules(25), seeds=[seed])
        assert torch.equal(spoken.columns, brute_force(lm, "hello", voice, window, seed, 25))


def test_a_fit_trains_it(random_batch: Any) -> None:
    lm = model()
    before = lm.depth.detach().clone()
    batches = [random_batch(lm)] * 2
    module = WandModule(lm, window=8)
    module.teacher = FrozenTeacher(model())
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", max_steps=2, enable_model_summary=False, **quiet)
    trainer.fit(module, DataLoader(batches, batch_size=None), DataLoader(batches, batch_size=None))
    assert not torch.equal(lm.depth, before)
    assert {"train/kd", "val/ce"} <= trainer.callback_metrics.keys()
    assert torch.isfinite(trainer.callback_metrics["val/ce"])
