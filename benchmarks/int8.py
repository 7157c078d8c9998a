"""The effect of int8 weights on error rates: ``python -m benchmarks.int8 runs/quickstart``.

The student speaks test sentences with its own weights and with int8 weights, using the same seeds. A recogniser
transcribes both. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from wand.console.tables import markdown
from wand.data.datamodule import default_cache_dir
from wand.data.prepare import prepare
from wand.data.shards import ShardedExamples
from wand.decoding.decoder import Decoder
from wand.demo.corpus import EspeakCorpus
from wand.evaluation.quality import Take, counts, summarise
from wand.evaluation.result_table import percent
from wand.evaluation.takes import speak_takes
from wand.metrics.intervals import interval, resampled_sums
from wand.model.backbone import Backbone
from wand.recognition import EMBEDDED, open_recogniser
from wand.runs.checkpoints import load_backbone_and_settings


def prepared_examples(backbone: Backbone, cache: Path, sentences: int) -> ShardedExamples:
    """Prepared test sentences in the trained voices and in the voice that was not trained on."""
    corpus = EspeakCorpus(hours=0.01, test_sentences=sentences)
    shards = prepare(corpus, backbone, cache, splits=("test",))
    return ShardedExamples(shards.files("test"), shards.fingerprint)


def difference(first: Sequence[Take], second: Sequence[Take]) -> tuple[float, tuple[float, float]]:
    """The second CER minus the first, and its 95 % interval. The sentences of both are resampled together."""
    letters = torch.cat([counts(first)[:, :2], counts(second)[:, :2]], dim=1)
    both, sums = letters.sum(0), resampled_sums(letters)
    rate = both[2] / both[3] - both[0] / both[1]
    return float(rate), interval(sums[:, 2] / sums[:, 3] - sums[:, 0] / sums[:, 1])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of the quickstart")
    parser.add_argument("--sentences", type=int, default=104, help="test sentences in trained voices (default: 104)")
    parser.add_argument("--seeds", type=int, default=2, help="takes of every sentence (default: 2)")
    parser.add_argument("--recogniser", default=EMBEDDED, help="as in wand test (default: %(default)s)")
    arguments = parser.parse_args()
    recogniser = open_recogniser(arguments.recogniser)
    student, settings = load_backbone_and_settings(arguments.run)
    window, codec = student.windows(settings.window), student.load_codec()
    examples = prepared_examples(student, default_cache_dir(), arguments.sentences)
    takes: dict[str, list[Take]] = {}
    for name, int8 in (("float", False), ("int8", True)):
        decoder = Decoder(student, window, int8=int8)
        for seed in range(arguments.seeds):
            spoken = speak_takes(decoder, codec, recogniser, examples, seed=seed)
            takes.setdefault(name, []).extend(take for take, _ in spoken.values())
    lines = []
    for name, own in takes.items():
        made = summarise(own)
        rates = [percent(made.cer, made.cer_interval), percent(made.wer, made.wer_interval)]
        lines.append([name, *rates, f"{made.duration:.2f}", percent(made.early), percent(made.missing)])
    print(markdown(["weights", "CER % [95 %]", "WER % [95 %]", "duration", "early %", "no stop %"], lines))
    print(f"\nCER of int8 minus CER of float: {percent(*difference(takes['float'], takes['int8']))} points, all voices")
    print(f"Heard by {recogniser.name}.")


if __name__ == "__main__":
    main()
