"""Data that was made for the fine-tuning of CosyVoice: parquet files, listed in a ``data.list``."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from wand.checks import check_shares
from wand.codecs.base import Codec
from wand.data.sources.source import SPLITS, SpeechCodes, Utterance, split_by_name
from wand.files.audio import resample
from wand.files.contents import content_digests
from wand.files.text import read_lines
from wand.model.backbone import Backbone

# Rows whose tokens are compared with the codec, and the share of equal tokens that shows the same tokenizer. Another
# tokenizer agrees by chance; the same one may differ a little after resampling.
COMPARED, AGREEMENT = 4, 0.5
# Rows that are read at once. A row may hold a whole sound file.
BATCH = 32


class ParquetCorpus:
    """Parquet files in the format of CosyVoice's training scripts, ``parquet_*.tar``, listed in a ``data.list``.

    Used are the columns ``utt``, ``text``, ``spk``, ``speech_token`` and ``audio_data``; others, such as
    ``utt_embedding``, are ignored. If all files have ``speech_token``, no codec is needed. Upstream gives no tokens to
    recordings over 30 s; they are left out.

    A path in a ``data.list`` may be absolute, or relative to the current folder or to the list; a file that is not
    there is looked for beside the list.

    Args:
        train: The ``data.list`` to train on: one parquet file per line.
        validation: The ``data.list`` to validate on. Without it, a share of the training utterances is held out.
        test: The ``data.list`` to test on. Without it, a share of the training utterances is held out.
        tokenizer: Name of the speech tokenizer that made ``speech_token``, such as ``speech_tokenizer_v2``. Without it,
            some rows are encoded with the model's codec and compared.
        use_tokens: Whether to use ``speech_token``. If false, ``audio_data`` is encoded with the model's codec.
        validation_share: Share of the training utterances to validate on, without `validation`.
        test_share: Share of the training utterances to test on, without `test`.

    Raises:
        ValueError: If pyarrow is not installed.
    """

    sample_rate: int = 24_000

    def __init__(
        self,
        train: str,
        validation: str | None = None,
        test: str | None = None,
        tokenizer: str | None = None,
        use_tokens: bool = True,
        validation_share: float = 0.01,
        test_share: float = 0.01,
    ) -> None:
        if find_spec("pyarrow") is None:
            raise ValueError('ParquetCorpus needs pyarrow: pip install "wand-tts[parquet]"')
        self.lists = {"train": train, "validation": validation, "test": test}
        self.tokenizer = tokenizer
        self.use_tokens = use_tokens
        self.shares = (0.0 if validation else validation_share, 0.0 if test else test_share)
        check_shares(*self.shares)
        self._tokens, self._sounds = _Column("speech_token"), _Column("audio_data")

    @cached_property
    def files(self) -> list[tuple[str, Path]]:
        """The split and path of every parquet file."""
        return [(split, file) for split in SPLITS if (name := self.lists[split]) for file in _listed(Path(name))]

    @cached_property
    def columns(self) -> dict[Path, set[str]]:
        """The names of the columns of every file."""
        found = {file: set(_open(file).schema_arrow.names) for _, file in self.files}
        for file, names in found.items():
            if missing := {"utt", "text"} - names:
                raise ValueError(f"{file} has no column {min(missing)}: it should have utt, text, spk and speech_token")
        return found

    def _have(self, column: str) -> bool:
        """Whether all files have a column."""
        return all(column in names for names in self.columns.values())

    @cached_property
    def rows(self) -> dict[str, tuple[str, Utterance, Path, int]]:
        """Split, utterance, file and number of the row of every utterance, by id.

        Raises:
            ValueError: If there is none, or two have the same id.
        """
        found: dict[str, tuple[str, Utterance, Path, int]] = {}
        for given, file in self.files:
            names: list[str] = [name for name in ("utt", "text", "spk") if name in self.columns[file]]
            listed = (row for batch in _batches(file, names) for row in batch)
            for number, row in enumerate(listed):
                name, place = str(row["utt"]), f"{file}, row {number}"
                if row["utt"] is None:
                    raise ValueError(f"{place} has no utt")
                if name in found:
                    raise ValueError(f"{place}: another utterance already has the id {name!r} ({found[name][2]})")
                speaker = "unknown" if row.get("spk") is None else str(row["spk"])
                split = split_by_name(name, *self.shares) if given == "train" else given
                text = "" if row["text"] is None else str(row["text"])
                found[name] = (split, Utterance(name, text, speaker), file, number)
        if not found:
            raise ValueError(f"{self.lists['train']} holds no utterance")
        return found

    @cached_property
    def coded(self) -> bool:
        """Whether the tokens of all files are used, so that no codec is needed."""
        return self.use_tokens and self._have("speech_token")

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the contents of all files and of the settings."""
        digests = content_digests(file for _, file in self.files)
        parts = ([(split, digests[file]) for split, file in self.files], self.coded, self.shares)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def utterances(self, split: str) -> list[Utterance]:
        """The utterances of one split."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        return [utterance for own, utterance, _, _ in self.rows.values() if own == split]

    def audio(self, utterance: Utterance) -> Tensor:
        """The audio of one utterance: float32 ``[N]`` at `sample_rate`. Channels are averaged."""
        _, _, file, number = self.rows[utterance.id]
        content = self._sounds.value(file, number) if "audio_data" in self.columns[file] else None
        if not isinstance(content, bytes):
            raise ValueError(f"{file}, row {number} ({utterance.id}) has no audio_data")
        try:
            samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{file}, row {number} ({utterance.id}): audio_data is no sound file: {error}") from error
        if len(samples) == 0 or not np.isfinite(samples).all():
            raise ValueError(f"{file}, row {number} ({utterance.id}): audio_data is empty or not finite")
        return resample(torch.from_numpy(samples.mean(axis=1)), rate, self.sample_rate)

    def codes(self, utterance: Utterance) -> SpeechCodes:
        """The tokens of one utterance, ``[1, F]``."""
        _, _, file, number = self.rows[utterance.id]
        tokens = self._tokens.value(file, number)
        if not tokens:
            raise ValueError(
                f"{file}, row {number} ({utterance.id}) has no speech_token: CosyVoice makes none for recordings over "
                f"30 s"
            )
        if not (isinstance(tokens, list) and all(type(token) is int for token in tokens)):
            raise ValueError(f"{file}, row {number} ({utterance.id}): speech_token is not a list of whole numbers")
        return SpeechCodes(torch.tensor(tokens)[None])

    def check_codes(self, backbone: Backbone) -> None:
        """Refuse tokens that another tokenizer made than that of the model.

        Raises:
            ValueError: If the tokenizer is another one, or neither its name nor a comparison is possible.
        """
        if not self.coded:
            return
        own = backbone.speech_tokenizer
        if self.tokenizer is not None:
            if own is not None and Path(self.tokenizer).stem != own:
                raise ValueError(
                    f"the speech_token of {self.lists['train']} are of {self.tokenizer}, but this model was trained "
                    f"with {own}: make them again, or set use_tokens of data.source to false"
                )
            return
        codec = backbone.find_codec()
        if codec is None or not self._have("audio_data"):
            raise ValueError(
                f"which speech tokenizer made speech_token of {self.lists['train']}? Set tokenizer of data.source to "
                f"its name ({own or 'such as speech_tokenizer_v2'}), or set data.codec, so that some rows are compared"
            )
        agreement = self._agreement(codec)
        if agreement < AGREEMENT:
            raise ValueError(
                f"only {agreement:.0%} of the compared speech_token of {self.lists['train']} are those of the model's "
                f"codec: another tokenizer made them; make them again, or set use_tokens of data.source to false"
            )

    def _agreement(self, codec: Codec) -> float:
        """Share of tokens that are equal to those of a codec, in some rows."""
        equal = total = 0
        for utterance in self._to_compare():
            tokens = self.codes(utterance).codes[0]
            sound = resample(self.audio(utterance), self.sample_rate, codec.sample_rate)
            encoded = codec.encode(sound[None, None], codec.sample_rate)[0, 0]
            frames = min(len(tokens), len(encoded))
            equal += int((tokens[:frames] == encoded[:frames]).sum())
            total += max(len(tokens), len(encoded))
        return equal / total

    def _to_compare(self) -> list[Utterance]:
        usable = []
        rows = [*self.rows.values()]
        for _, utterance, file, number in rows[:: max(1, len(rows) // COMPARED)]:
            if self._tokens.value(file, number) and self._sounds.value(file, number):
                usable.append(utterance)
        if not usable:
            raise ValueError(f"no row of {self.lists['train']} has speech_token and audio_data to compare")
        return usable[:COMPARED]


class _Column:
    """The values of one column. Reading them in their order reads every batch of rows once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._file: Path | None = None
        self._begin = 0
        self._values: list[Any] = []
        self._batches: Iterator[list[dict[str, Any]]] = iter(())

    def __reduce__(self) -> tuple[type[_Column], tuple[str]]:
        """Pickle only the name: an open file cannot be pickled."""
        return type(self), (self.name,)

    def value(self, file: Path, number: int) -> Any:
        """The value in one row."""
        if file != self._file or number < self._begin:
            self._file, self._begin, self._values = file, 0, []
            self._batches = _batches(file, [self.name])
        while number >= self._begin + len(self._values):
            self._begin += len(self._values)
            self._values = [row[self.name] for row in next(self._batches, ())]
            if not self._values:
                raise ValueError(f"{file} has no row {number}: it has changed since it was listed")
        return self._values[number - self._begin]


def _listed(path: Path) -> list[Path]:
    """The files that a ``data.list`` names."""
    if not path.is_file():
        raise ValueError(f"no list of parquet files at {path}")
    found = []
    for number, line in read_lines(path):
        named = Path(line.strip())
        places = (named, path.parent / named, path.parent / named.name)
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise ValueError(f"{path}, line {number}: there is no file {named}")
        found.append(file)
    if not found:
        raise ValueError(f"{path} names no file: write the path of one parquet file per line")
    return found


def _open(file: Path) -> Any:
    """A ``ParquetFile``, which is read as a stream."""
    try:
        return import_module("pyarrow.parquet").ParquetFile(file, pre_buffer=False)
    except Exception as error:  # pyarrow's errors have no other base class, and it is not imported here
        raise ValueError(f"{file} is not a parquet file that can be read: {error}".partition("\n")[0]) from error


def _batches(file: Path, names: list[str]) -> Iterator[list[dict[str, Any]]]:
    """The rows of a file, with some of its columns, a few at a time."""
    try:
        for batch in _open(file).iter_batches(BATCH, columns=names):
            yield batch.to_pylist()
    except Exception as error:  # see above
        raise ValueError(f"{file} is damaged: {error}".partition("\n")[0]) from error
