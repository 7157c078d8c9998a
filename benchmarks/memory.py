"""The memory of a training step, by strategy: ``python -m benchmarks.memory``.

Prints what each process holds for models of 0.5 to 8 billion parameters by the estimate that a fit prints, what the
processes send to each other in a step, and what changes with their number. ``--check`` compares the estimate with the
tensors that a step really holds (`benchmarks.held`). Everything is computed; no GPU is used. Prints Markdown.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from math import ceil, log2

from benchmarks.held import Training, held_by_a_step
from wand.attention import AttentionWindow
from wand.backbones.causal_lm import CausalSpeechLM
from wand.backbones.encodec_lm import EncodecLM, EncodecLMArchitecture
from wand.console.tables import markdown
from wand.lora import LoraSettings
from wand.model.backbone import Backbone
from wand.model.prompts import SpeechFormat, SpeechTokens
from wand.training.memory import step_memory
from wand.training.memory_parts import outside, size

ROWS, PREFIX, SPEECH = 8, 200, 800  # of a batch on one process
RANKS = 8
CARDS = (24, 40, 80)  # GB
USABLE = 0.9  # of a card; the rest is for CUDA, NCCL and what the allocator cannot use
LORA = LoraSettings()
STRATEGIES = {
    "ddp": Training(strategy="ddp", ranks=RANKS),
    "ddp, gradient checkpointing": Training(strategy="ddp", ranks=RANKS, checkpointing=True),
    "ddp, LoRA and self-teacher": Training(strategy="ddp", ranks=RANKS, lora=LORA),
    "ddp, LoRA and self-teacher, gradient checkpointing": Training(
        strategy="ddp", ranks=RANKS, lora=LORA, checkpointing=True
    ),
    "fsdp": Training(strategy="fsdp", ranks=RANKS),
    "fsdp, gradient checkpointing": Training(strategy="fsdp", ranks=RANKS, checkpointing=True),
    "fsdp, LoRA and self-teacher, gradient checkpointing": Training(
        strategy="fsdp", ranks=RANKS, lora=LORA, checkpointing=True
    ),
}


def causal(
    width: int, layers: int, heads: int, pairs: int, inner: int, vocabulary: int, codes: int, tied: bool
) -> CausalSpeechLM:
    """A body as in Qwen2 with speech tokens in its vocabulary."""
    speech = SpeechFormat([SpeechTokens("<|s_{}|>", codes)], ["<|end|>"], "{text}", 50.0, 16_000)
    config = {
        "model_type": "qwen2",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": pairs,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }
    return CausalSpeechLM(architecture={"config": config, "format": asdict(speech), "dtype": "bfloat16"})


def encodec(width: int, layers: int, heads: int, pairs: int, inner: int) -> EncodecLM:
    """An `EncodecLM` of the given size."""
    shape = EncodecLMArchitecture(
        hidden_size=width,
        num_layers=layers,
        num_heads=heads,
        num_key_value_heads=pairs,
        intermediate_size=inner,
    )
    return EncodecLM(architecture=shape)


Make = Callable[[], Backbone]
# With the shapes of Spark-TTS, Llasa 1B, Orpheus and Llasa 8B.
MODELS: dict[str, Make] = {
    "0.5 B": partial(causal, 896, 24, 14, 2, 4864, 166_000, 8192, True),
    "1 B": partial(causal, 2048, 16, 32, 8, 8192, 193_800, 65_536, True),
    "3 B": partial(causal, 3072, 28, 24, 8, 8192, 156_940, 28_672, True),
    "8 B": partial(causal, 4096, 32, 32, 8, 14_336, 193_800, 65_536, False),
}
SMALL: dict[str, Make] = {
    "EncodecLM, 6 M": partial(encodec, 256, 6, 4, 2, 704),
    "EncodecLM, 87 M": partial(encodec, 768, 12, 12, 12, 2048),
    "EncodecLM, 500 M": partial(encodec, 1536, 16, 16, 16, 4096),
}


@cache
def shapes(name: str, lora: LoraSettings | None = None) -> Backbone:
    """A model of `MODELS` on the meta device."""
    return Training("32-true", lora).prepared(MODELS[name])


def count(name: str) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in shapes(name).parameters())


def strategies() -> str:
    """Gigabytes of each model with each strategy, and which cards are large enough."""
    lines = []
    for name, training in STRATEGIES.items():
        cells = []
        for model in MODELS:
            step = training.step(ROWS, PREFIX, SPEECH, "cuda")
            used = step_memory(shapes(model, training.lora), step).total / 1e9
            fits = next((f"{card} GB" for card in CARDS if used <= USABLE * card), "none")
            cells.append(f"{used:.1f} ({fits})")
        lines.append([name, *cells])
    sizes = [f"{name} ({count(name) / 1e9:.2f} B)" for name in MODELS]
    return markdown(["GB on each of 8 GPUs (smallest card)", *sizes], lines)


@dataclass(frozen=True)
class Sent:
    """What a process sends in a step, in bytes, for a number of processes without end: times (n - 1) / n for n.

    Args:
        reduced: The sum of the gradients. An all-reduce sends it twice, a reduce-scatter once.
        gathered: Parameters of the student (forward and backward pass) and of its teacher.
        messages: Number of collectives.
        smallest: Bytes of a layer that is gathered.
    """

    reduced: int
    gathered: int
    messages: int
    smallest: int

    @property
    def total(self) -> int:
        """Sum of both."""
        return self.reduced + self.gathered


def sent(model: str, training: Training) -> Sent:
    """Count what a step sends."""
    backbone = shapes(model, training.lora)
    gradients = size(parameter for parameter in backbone.parameters() if parameter.requires_grad)
    if training.strategy == "ddp":
        return Sent(2 * gradients, 0, -(-gradients // (25 * 2**20)), 25 * 2**20)
    units = backbone.sharded_units()
    layers = sum(size(unit.parameters()) for unit in units) // 2  # in bfloat16
    # A teacher without weights of its own takes those of the student, which are gathered for it as well.
    return Sent(gradients, 3 * layers + size(outside(backbone)), 4 * len(units) + 2, layers // len(units))


def communication() -> str:
    """Gigabytes that a process sends in a step."""
    lines = []
    for name in ("ddp", "ddp, LoRA and self-teacher", "fsdp", "fsdp, LoRA and self-teacher, gradient checkpointing"):
        volumes = [sent(model, STRATEGIES[name]) for model in MODELS]
        cells = [f"{one.total / 1e9:.2f} = {one.reduced / 1e9:.2f} + {one.gathered / 1e9:.2f}" for one in volumes]
        lines.append([name, *cells])
    return markdown(["GB sent = gradients + parameters", *MODELS], lines)


# Assumptions about a GPU (bfloat16 at 40 % of 989 TFLOPS) and a network (400 Gbit/s a GPU, 10 us for a hop).
FLOPS, BYTES_PER_SECOND, HOP_SECONDS = 0.4 * 989e12, 50e9, 10e-6


def scaling(name: str = "3 B") -> str:
    """What a model sends and waits for, with 1 to 1,024 GPUs."""
    lines = []
    # The student computes its forward pass, again under checkpointing, and twice as much backwards; the teacher once.
    seconds = 2 * count(name) * ROWS * (PREFIX + SPEECH) * (1 + 1 + 2 + 1) / FLOPS
    for ranks in (1, 8, 64, 256, 1024):
        cells = [f"{ranks:,}", f"{ranks * ROWS:,}", f"{1_000_000 // (ranks * ROWS):,}"]
        # An all-reduce runs up and down a tree, a gather and a scatter run around a ring.
        for strategy, hops in (("ddp", 2 * ceil(log2(ranks))), ("fsdp, gradient checkpointing", ranks - 1)):
            one = sent(name, STRATEGIES[strategy])
            volume = one.total * (ranks - 1) / ranks / BYTES_PER_SECOND
            waits = one.messages * hops * HOP_SECONDS
            cells.append(f"{volume / seconds:.0%} + {waits / seconds:.0%}")
            if strategy.startswith("fsdp"):
                cells.append(f"{one.smallest / ranks / 1e6:.2f}")
        lines.append(cells)
    titles = ["GPUs", "utterances a step", "steps in 1,000,000 utterances", "ddp: transfer + hops"]
    return markdown([*titles, "fsdp: transfer + hops", "MB of a layer on a GPU"], lines)


@dataclass(frozen=True)
class Check:
    """A comparison of the estimate with what a step holds.

    Args:
        model: Name of the model.
        training: How to train.
        rows: B.
        prefix: P.
        speech: T.
        device: Of the loss and the optimizer; see `held_by_a_step`.
        window: The student's window, on a CPU.
    """

    model: str
    training: Training
    rows: int = ROWS
    prefix: int = PREFIX
    speech: int = SPEECH
    device: str = "cuda"
    window: AttentionWindow | None = None

    def run(self) -> list[str]:
        """A line of the table."""
        make = (MODELS | SMALL)[self.model]
        sizes = self.rows, self.prefix, self.speech, self.device
        estimate = step_memory(self.training.prepared(make), self.training.step(*sizes))
        held = held_by_a_step(make, self.training, *sizes, window=self.window)
        way = f"{self.training.strategy or 'one process'}"
        way += f" x {self.training.ranks}" if self.training.strategy else ""
        how = [way, "LoRA" if self.training.lora else "copy"]
        how += ["checkpointing"] if self.training.checkpointing else []
        kernel = "cuda" if self.window is None else "cpu, soft" if self.window.tau is not None else "cpu, hard"
        figures = [f"{estimate.total / 1e9:.3f}", f"{held / 1e9:.3f}", f"{estimate.total / held - 1:+.1%}"]
        batch = f"{self.rows} x ({self.prefix} + {self.speech})"
        return [self.model, ", ".join(how), self.training.precision, kernel, batch, *figures, estimate.moment]


def checks() -> Iterator[Check]:
    """Models of every size; every strategy, precision and teacher at some size."""
    yield Check("0.5 B", Training(strategy="ddp", ranks=8))
    yield Check("8 B", Training(strategy="fsdp", ranks=8, checkpointing=True))
    yield Check("1 B", Training(lora=LORA, strategy="ddp", ranks=8, checkpointing=True))
    yield Check("3 B", Training(strategy="fsdp", ranks=8))
    yield Check("0.5 B", Training(strategy="fsdp", ranks=2, checkpointing=True))
    yield Check("EncodecLM, 87 M", Training(strategy="ddp", ranks=2))
    yield Check("EncodecLM, 500 M", Training("bf16-true", checkpointing=True))
    yield Check("EncodecLM, 500 M", Training("32-true", strategy="fsdp", ranks=8))
    yield Check("1 B", Training("bf16-true"))
    yield Check("0.5 B", Training("32-true", lora=LORA))
    yield Check("EncodecLM, 6 M", Training("32-true", checkpointing=True))
    yield Check("EncodecLM, 6 M", Training(lora=LORA))
    yield Check("EncodecLM, 87 M", Training("32-true"), 2, 90, 103, "cpu", AttentionWindow(32))
    yield Check("EncodecLM, 6 M", Training("32-true"), 8, 100, 200, "cpu", AttentionWindow(32))
    yield Check("EncodecLM, 6 M", Training("32-true"), 8, 100, 200, "cpu", AttentionWindow(32, 4.0))
    yield Check("8 B", Training(lora=LORA, strategy="fsdp", ranks=8, checkpointing=True))
    yield Check("3 B", Training("bf16-true", lora=LORA, strategy="ddp", ranks=8, checkpointing=True))
    yield Check("1 B", Training(strategy="fsdp", ranks=1))
    yield Check("8 B", Training("32-true", strategy="fsdp", ranks=8))


def check(models: Sequence[str]) -> None:
    """Print the table of comparisons, line by line."""
    titles = ["model", "training", "precision", "kernel", "batch", "estimate, GB", "held, GB", "difference", "moment"]
    print(markdown(titles, []), flush=True)
    for one in checks():
        if one.model in models:
            print("| " + " | ".join(one.run()) + " |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the page."""
    warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare the estimate with what a step holds")
    names = [*SMALL, *MODELS]
    parser.add_argument("--models", nargs="*", default=names, choices=names, help="models to check (default: all)")
    given = parser.parse_args(arguments)
    if given.check:
        check(given.models)
        return
    for table in (strategies, communication, scaling):
        print(table(), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
