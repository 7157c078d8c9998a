"""Encodes spoken speech, so that it travels as codes: writes the folder that `wand.demo.coded.CodedCorpus` reads."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from math import inf
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from recipes.corpus.corpus import kind_of
from recipes.corpus.recorded import Recorded
from recipes.corpus.sources import SHARES
from wand.codecs import EncodecCodec
from wand.console.progress import progress
from wand.data.encoding import Encoder
from wand.data.example import Refusal
from wand.data.sources.source import SPLITS, SpeechSource, Utterance
from wand.data.validate import SpeechLimits
from wand.demo.coded import CODES, INDEX
from wand.files.writing import replacing


def write_codes(
    source: SpeechSource, chosen: list[tuple[str, Utterance]], codec: EncodecCodec, folder: Path
) -> list[Refusal]:
    """Encode utterances into a folder.

    Args:
        source: The corpus.
        chosen: Utterances with their splits.
        codec: The codec, of at most 256 codes.
        folder: The folder to write.

    Returns:
        The utterances that cannot be used.
    """
    if codec.codebook_size > 256:
        raise ValueError(f"the codec has {codec.codebook_size} codes in a codebook; one byte holds 256")
    allowed = torch.ones(codec.num_codebooks, codec.codebook_size, dtype=torch.bool)
    encode = Encoder(source, codec, SpeechLimits(codec.frame_rate, inf, allowed))
    codes, lines, left_out = [], [], []
    with progress("encoding", len(chosen), "utterances") as done:
        for split, utterance in chosen:
            own = encode(utterance)
            done.advance()
            if isinstance(own, Refusal):
                left_out.append(own)
                continue
            line: dict[str, Any] = {
                "id": utterance.id,
                "text": utterance.text,
                "speaker": utterance.speaker,
                "split": split,
            }
            line |= {"frames": own.codes.shape[1], "voiced": own.voiced}
            codes.append(own.codes.to(torch.uint8))
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    about = {"codec": codec.fingerprint, "frame_rate": str(codec.frame_rate)}
    with replacing(folder / CODES) as partial:
        save_file({"codes": torch.cat(codes, 1).contiguous()}, partial, about)
    with replacing(folder / INDEX) as partial:
        partial.write_text("".join(lines), encoding="utf-8")
    return left_out


def choose(source: Recorded, hours: float, kinds: Collection[str], sentences: int) -> list[tuple[str, Utterance]]:
    """The first training utterances of some kinds, and the first ones for validation and test, with their splits.

    Args:
        source: The corpus.
        hours: Hours of training speech.
        kinds: Kinds of sentences for training and validation.
        sentences: Number of utterances in each of validation and test.
    """
    chosen, missing = [], hours * 3600
    for utterance in source.utterances("train"):
        if kind_of(utterance) in kinds and missing > 0:
            missing -= source.seconds(utterance)
            chosen.append(("train", utterance))
    if missing > 0:
        raise ValueError(f"{source.folder} has {hours - missing / 3600:.2f} hours of {', '.join(kinds)}, not {hours:g}")
    validation = [utterance for utterance in source.utterances("validation") if kind_of(utterance) in kinds]
    spoken = {"validation": validation, "test": source.utterances("test")}
    return chosen + [(split, utterance) for split in SPLITS[1:] for utterance in spoken[split][:sentences]]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("speech", type=Path, help="folder of recipes.corpus.speak")
    parser.add_argument("--out", type=Path, default=Path("wand/assets/speech"), help="folder of the codes")
    parser.add_argument("--codec", default="embedded", help="the codec, as EncodecCodec opens it")
    parser.add_argument("--hours", type=float, default=1.6, help="hours of training speech")
    parser.add_argument("--sentences", type=int, default=104, help="utterances in each of validation and test")
    parser.add_argument("--kinds", nargs="+", default=[*SHARES], choices=[*SHARES], help="kinds of sentences")
    arguments = parser.parse_args()
    source = Recorded(arguments.speech)
    chosen = choose(source, arguments.hours, arguments.kinds, arguments.sentences)
    for refusal in write_codes(source, chosen, EncodecCodec(arguments.codec), arguments.out):
        print(f"left out: {refusal.id}: {refusal.detail}")


if __name__ == "__main__":
    main()
