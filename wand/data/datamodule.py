"""The LightningDataModule: a corpus, its cache, and the loaders of every split."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn

from wand.backbone import Backbone
from wand.codecs import Codec
from wand.conditioning import Reference
from wand.data.audio import resample
from wand.data.batching import BatchBounds, BatchLoader
from wand.data.prepare import ShardCache, prepare, shard_cache
from wand.data.sampled import TeacherSamples
from wand.data.shards import Example, read_shard
from wand.data.source import SPLITS, SpeechSource
from wand.module import WandModule
from wand.voices import read_voice


def default_cache_dir() -> Path:
    """``$WAND_CACHE``, else ``wand`` in the user's cache folder."""
    if named := os.environ.get("WAND_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "wand"


class SpeechDataModule(LightningDataModule):
    """Prepares a corpus once (cached, restartable, shared by runs) and batches it by length.

    Args:
        source: The corpus: `wand.data.files.LibriTTS` or another (docs/data.md).
        batch_size: Utterances a step and device, at most.
        columns_per_batch: Columns a step and device, at most: prefix and speech of all utterances, padding included.
            Short utterances then come in larger batches than long ones (raise `batch_size` with it); null has no bound.
        seed: Of the order of batches.
        cache_dir: Where prepared speech is kept; ``$WAND_CACHE`` or the user's cache folder by default.
        workers: Processes that make, read and encode the sound during preparation.
        codec: The model's codec, where the adapter brings none of its own (`wand.codecs.worker.WorkerCodec`).
        max_seconds: Longer recordings are left out.

    Raises:
        ValueError: If the batch size or the columns are not positive.
    """

    def __init__(
        self,
        source: SpeechSource,
        batch_size: int = 16,
        seed: int = 0,
        cache_dir: Path | None = None,
        workers: int = 2,
        codec: Codec | None = None,
        max_seconds: float = 30.0,
        columns_per_batch: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("columns_per_batch", columns_per_batch)):
            if value is not None and value < 1:
                raise ValueError(f"data.{name} {value} is not positive")
        self.source = source
        self.bounds = BatchBounds(batch_size, columns_per_batch)
        self.seed = seed
        self.cache_dir = default_cache_dir() if cache_dir is None else cache_dir
        self.workers = workers
        self.codec = codec
        self.max_seconds = max_seconds
        self.examples: dict[str, list[Example]] = {}
        self._voices: dict[str, Reference] = {}
        self._train_loader: BatchLoader | None = None
        self._progress: dict[str, int] | None = None

    @property
    def _backbone(self) -> Backbone:
        return self._module.backbone

    @property
    def _module(self) -> WandModule:
        module = self.trainer.lightning_module if self.trainer else None
        assert isinstance(module, WandModule), "the data are conditioned for the model of a WandModule"
        return module

    def prepare_data(self) -> None:
        """Make the shards that are not in the cache (one process a node)."""
        self.prepare_for(self._module)

    def prepare_for(self, module: WandModule) -> ShardCache:
        """Make the shards that are not in the cache for a module's backbone."""
        self._give_codec(module.backbone)
        return prepare(self.source, module.backbone, self.cache_dir, self.workers, max_seconds=self.max_seconds)

    def _give_codec(self, backbone: Backbone) -> None:
        if self.codec is not None:
            backbone.codec = self.codec

    def setup(self, stage: str) -> None:
        """Read the shards of the splits that a stage needs."""
        self._give_codec(self._backbone)
        needed = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}
        missing = [split for split in needed.get(stage, ()) if split not in self.examples]
        if missing:
            cache = shard_cache(self.source, self._backbone, self.cache_dir, self.max_seconds)
            for split in missing:
                files = cache.shards(split, len(self.source.utterances(split)))
                self.examples[split] = [e for file in files for e in read_shard(file, cache.fingerprint)]
        if stage == "fit":
            self._warn_if_window_never_acts()
            self._train_loader = self._loader("train", shuffle=True)
            self._check_columns(self._train_loader)

    def _check_columns(self, loader: BatchLoader) -> None:
        columns = self.bounds.columns
        for example, length in zip(loader.examples, loader.lengths, strict=True):
            if columns is not None and sum(length) > columns:
                raise ValueError(
                    f"data.columns_per_batch {columns} cannot hold utterance {example.id!r} ({length.prefix} + "
                    f"{length.speech} columns): raise it, or lower data.max_seconds"
                )

    def _warn_if_window_never_acts(self) -> None:
        window = self._module.final_window.smallest
        longest = max(self._backbone.layout.to_columns(e.codes).shape[0] for e in self.examples["train"])
        if window is not None and window >= longest:
            rank_zero_warn(
                f"model.window {window} is not smaller than the longest utterance ({longest} columns): it hides "
                f"nothing, the student can only equal the teacher"
            )

    @property
    def train_loader(self) -> BatchLoader:
        """Of the fit that was set up last."""
        assert self._train_loader is not None, "set up for no fit"
        return self._train_loader

    def train_dataloader(self) -> BatchLoader:
        """Shuffled by epoch; goes on where a checkpoint left it."""
        if self._progress is not None:
            self.train_loader.resume(self._progress)
        return self.train_loader

    def val_dataloader(self) -> BatchLoader:
        """By length."""
        return self._loader("validation", shuffle=False)

    def test_dataloader(self) -> BatchLoader:
        """By length."""
        return self._loader("test", shuffle=False)

    def voice(self, example: Example) -> Reference | None:
        """The voice of an example, for codecs whose codes leave it out; None for all others."""
        codec = self._backbone.find_codec()
        if codec is None or not codec.needs_reference or example.reference is None:
            return None
        if example.reference not in self._voices:
            by_id = {u.id: u for split in SPLITS for u in self.source.utterances(split)}
            # What a teacher said has its prompt's sound.
            named = example.id if isinstance(self.source, TeacherSamples) else example.reference
            audio = resample(self.source.audio(by_id[named]), self.source.sample_rate, codec.sample_rate)
            self._voices[example.reference] = read_voice(codec, audio, codec.sample_rate)
        return self._voices[example.reference]

    def state_dict(self) -> dict[str, Any]:
        """Where training stands in its data.

        Not left to the loader: Lightning makes it before it reads a checkpoint, to count the steps of an epoch, and
        then forgets to hand it its state.
        """
        return {} if self._train_loader is None else self._train_loader.progress()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there, now or when the loader is made."""
        self._progress = state_dict
        if self._train_loader is not None:
            self._train_loader.resume(state_dict)

    def _loader(self, split: str, shuffle: bool) -> BatchLoader:
        assert self.trainer is not None
        backbone = self._backbone
        return BatchLoader(
            self.examples[split],
            backbone.conditioner,
            backbone.layout,
            self.bounds,
            seed=self.seed,
            shuffle=shuffle,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
        )
