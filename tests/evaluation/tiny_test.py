"""A whole test of two tiny models, in this process or in several."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
import torch.distributed

from tests.conftest import sharpened
from tests.evaluation.extra_metrics import ExtraSeconds
from tests.workplace import SHAPE
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.codecs.reference import Reference
from wand.data.shards import Example
from wand.evaluation.systems import ComparedSystem, Weights, compared_systems
from wand.evaluation.test import ComparisonTest, TestSize
from wand.model.batch import ConditionedBatch, make_batch
from wand.ranks import rank_and_world
from wand.recognition import EmbeddedRecogniser

FRAMES = (12, 31, 20, 7, 16)
SPEAKERS = ("anna", "brian", "iris", "anna", "brian")


def models() -> dict[str, EncodecLM]:
    made = {}
    for seed, name in enumerate(("teacher", "student")):
        torch.manual_seed(seed)
        made[name] = sharpened(EncodecLM(architecture=EncodecLMArchitecture(**SHAPE, reference_seconds=0.1))).eval()
    return made


def systems() -> dict[ComparedSystem, Weights]:
    own = {name: partial(nullcontext, model) for name, model in models().items()}
    return {system: own[system.weights] for system in compared_systems(AttentionWindow(8), True, (4,))}


def model_of(weights: Weights) -> EncodecLM:
    with weights() as model:
        assert isinstance(model, EncodecLM)
        return model


def examples(lm: EncodecLM) -> list[Example]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for i, (frames, speaker) in enumerate(zip(FRAMES, SPEAKERS, strict=True)):
        codes, reference = (torch.randint(0, 256, (8, n), generator=generator) for n in (frames, 5))
        text = "one two three"[: 5 + 2 * i]
        made.append(Example(f"u{i}", text, speaker, lm.conditioner(text, Reference(reference)), codes))
    return made


def batches(lm: EncodecLM, share: list[Example]) -> list[ConditionedBatch]:
    """One sentence a batch: no padding, so that sums do not depend on who gets it."""
    return [make_batch(lm.conditioner, lm.layout, [e.conditioning], [e.codes]) for e in share]


def make_test(sentences: int | None = None) -> ComparisonTest:
    own = systems()
    lm = model_of(next(iter(own.values())))
    return ComparisonTest(
        own,
        examples(lm),
        TestSize(sentences=sentences, seeds=2, sounds=2, pictures=0),
        codec=lm.load_codec(),
        recogniser=EmbeddedRecogniser(),
        metrics=[ExtraSeconds()],
        trained=("anna", "brian"),
        columns=(),  # times differ from run to run
    )


def run_share(rank: int, world: int, folder: Path) -> None:
    """One of several processes; writes what it got."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world)
    test = make_test()
    lm = model_of(next(iter(test.systems.values())))
    assert rank_and_world() == (rank, world)
    result, speeches = test.run(batches(lm, test.examples[rank::world]))
    assert speeches is not None
    takes = {name: [(take.id, take.seed, take.metrics) for take in own] for name, own in speeches.takes.items()}
    (folder / f"{rank}.json").write_text(json.dumps({"result": result.to_json(), "takes": takes}))
    torch.distributed.destroy_process_group()
