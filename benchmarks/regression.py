"""Is this tree slower than another? ``python -m benchmarks.regression ../other-checkout``.

Both trees are measured alternately, each time in a fresh process with one thread: a decoding step of the lean body,
four texts through the engine, band attention forward and backward, and a training step of the student. The table has
the median of the paired ratios (this tree over the other) and its 95 % interval, with pairs resampled. The other tree
needs this file too. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from wand.attention import AttentionContext, AttentionWindow
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.benchmark.cost import filled_cache
from wand.codecs.reference import Reference
from wand.console.tables import markdown
from wand.decoding.decoder import Decoder
from wand.decoding.generate import generate
from wand.decoding.stopping import StopRules
from wand.distillation.terms import LossTerms
from wand.model.batch import ConditionedBatch, make_batch
from wand.training.teacher import COPY, build_teacher

WINDOW = AttentionWindow(32)


def model() -> EncodecLM:
    """A model of the embedded voice's size, with random weights."""
    torch.manual_seed(0)
    return EncodecLM(architecture=EncodecLMArchitecture(reference_seconds=1.0))


def lean_step() -> Callable[[], object]:
    """A step of eight rows, the head included."""
    lm = model().eval()
    decoder, head = Decoder(lm, WINDOW, "lean"), lm.speech_head()
    cache, column = filled_cache(lm, 100, 300, WINDOW, 8), torch.zeros(8, lm.num_codebooks, dtype=torch.long)

    @torch.inference_mode()
    def step() -> object:
        return head.logits(decoder.step(cache, column))

    return step


def band_attention() -> Callable[[], object]:
    """Four rows of 100 + 600 columns."""
    tensors = query, key, value = [torch.randn(4, heads, 700, 64, requires_grad=True) for heads in (8, 2, 2)]
    weights = torch.randn(4, 700, 8, 64)

    def attend() -> object:
        output = AttentionContext(WINDOW, 100, kernel="band").attend(0, query, key, value)
        return torch.autograd.grad(output, tensors, weights)

    return attend


def training_batch(lm: EncodecLM) -> ConditionedBatch:
    """Four utterances of six seconds."""
    codes = [torch.randint(0, 256, (4, 300)) for _ in range(4)]
    voice = Reference(torch.randint(0, 256, (4, 50)))
    said = [lm.conditioner("every word is heard through a small window", voice) for _ in codes]
    return make_batch(lm.conditioner, lm.layout, said, codes)


def speech() -> Callable[[], object]:
    """Four texts spoken at once through the engine, 60 columns each, sampling included."""
    lm = model().eval()
    decoder, batch = Decoder(lm, WINDOW, "lean"), training_batch(lm)
    return lambda: generate(decoder, batch, rules=StopRules(60))


def student_step() -> Callable[[], object]:
    """Teacher, student, loss and gradients."""
    lm = model()
    teacher, batch = build_teacher(COPY, lm), training_batch(lm)
    trained, weights = list(lm.parameters()), torch.ones(batch.labels.shape)

    def step() -> object:
        expected = teacher.head_input(batch)
        loss = lm.head_input(batch, WINDOW).loss(batch.labels, weights, LossTerms(), expected).loss
        return torch.autograd.grad(loss, trained)

    return step


MEASURED = {
    "lean step": (lean_step, 300),
    "speech": (speech, 10),
    "band attention": (band_attention, 12),
    "student step": (student_step, 4),
}


def measure() -> dict[str, float]:
    """Median milliseconds of processor time: other load on the machine counts little."""
    torch.set_num_threads(1)
    found = {}
    for name, (make, repeats) in MEASURED.items():
        call, times = make(), []
        for _ in range(max(1, repeats // 10)):
            call()
        for _ in range(repeats):
            begin = time.process_time()
            call()
            times.append(1000 * (time.process_time() - begin))
        found[name] = statistics.median(times)
    return found


def measure_in(tree: Path) -> dict[str, float]:
    """`measure` in a process of a tree."""
    command = [sys.executable, "-m", "benchmarks.regression", "--once"]
    done = subprocess.run(
        command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def interval(ratios: list[float]) -> tuple[float, float]:
    """95 % interval of the median, pairs resampled."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[1949]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, nargs="?", help="the other checkout")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--once", action="store_true", help="measure this tree alone, as JSON")
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure()))
        return
    if options.other is None:
        parser.error("give the other checkout")
    here = Path(__file__).parent.parent
    ratios: dict[str, list[float]] = {name: [] for name in MEASURED}
    times: dict[str, list[float]] = {name: [] for name in MEASURED}
    for pair in range(options.pairs):
        trees = [here, options.other.resolve()]
        found = {tree: measure_in(tree) for tree in (trees if pair % 2 else trees[::-1])}
        for name in MEASURED:
            ratios[name].append(found[trees[0]][name] / found[trees[1]][name])
            times[name].append(found[trees[0]][name])
        print(f"pair {pair + 1} of {options.pairs}", file=sys.stderr, flush=True)
    lines = []
    for name, own in ratios.items():
        low, high = interval(own)
        lines.append(
            [name, f"{statistics.median(times[name]):.2f}", f"{statistics.median(own):.3f}", f"{low:.3f}-{high:.3f}"]
        )
    print(markdown(["measured", "ms here", "here / other", "95 %"], lines))


if __name__ == "__main__":
    main()
