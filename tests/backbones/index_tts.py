"""A tiny IndexTTS 1.5 in the files of a release: upstream's golden weights, pieces trained on the spot."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from omegaconf import OmegaConf
from torch import Tensor

from tests.backbones.goldens import Golden
from wand.backbones.index_tts import IndexTTS, MelPositions
from wand.codecs.reference import Reference
from wand.model.batch import Conditioning

GOLDEN = Golden.read("indextts15")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ,.!?'-…你好"
CODES = 48


@cache
def pieces() -> bytes:
    """``bpe.model``: every letter a piece, start and stop at 0 and 1 as in the release."""
    sentencepiece.set_min_log_level(2)
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(LETTERS)] * 20),
        model_writer=model,
        model_type="char",
        vocab_size=len(LETTERS) + 4,
        bos_id=0,
        eos_id=1,
        unk_id=2,
        pad_id=-1,
        character_coverage=1.0,
        num_threads=1,
    )
    return model.getvalue()


def config(**gpt: Any) -> str:
    """``config.yaml`` of the golden, with changes below ``gpt``."""
    values = {**GOLDEN.config["gpt"], **gpt}
    return OmegaConf.to_yaml(OmegaConf.create({"dataset": {"bpe_model": "bpe.model"}, "gpt": values, "version": 1.5}))


def write_release(folder: Path, weights: Any = None) -> Path:
    """A folder as upstream publishes it; `weights` is what ``gpt.pth`` holds, the golden's state dict by default."""
    folder.mkdir(parents=True)
    torch.save(GOLDEN.state if weights is None else weights, folder / "gpt.pth")
    (folder / "config.yaml").write_text(config())
    (folder / "bpe.model").write_bytes(pieces())
    return folder


def load(release: Path, mel_positions: MelPositions = "training") -> IndexTTS:
    """The model of a release, with its weights."""
    model = IndexTTS(pretrained=str(release), mel_positions=mel_positions)
    model.load_pretrained()
    return model.eval()


def conditioning(model: IndexTTS, row: int, voice: int | None = None) -> Conditioning:
    """Text `row` of the golden in the voice of its own reference, or of another row's."""
    given = GOLDEN.inputs
    voice = row if voice is None else voice
    text = given["text"][row, : given["text_len"][row]].tolist()
    return model.conditioner.prefix(text, given["cond_mel"][voice, :, : given["cond_mel_len"][voice]].T)


def codes(row: int) -> Tensor:
    """Speech `row` of the golden, ``[1, T]``."""
    return GOLDEN.inputs["mel_codes"][row : row + 1, : GOLDEN.inputs["mel_len"][row]]


def sound(seconds: float) -> Reference:
    """A voice of noise."""
    return Reference(torch.zeros(1, 0, dtype=torch.long), 0.1 * torch.randn(int(24_000 * seconds)))
