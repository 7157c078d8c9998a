"""The LightningDataModule: a corpus, its cache, and the data loader of every split."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from wand.attention import Windows
from wand.checks import check_number, check_whole_number
from wand.codecs import Codec
from wand.data.batching import BatchBounds, BatchLoader, Length, longest_of
from wand.data.check import check_cache, check_source, mend_cache
from wand.data.prepare import ShardCache, copy_shards, prepare, shard_cache
from wand.data.shards import ShardedExamples
from wand.data.sources.source import SpeechSource
from wand.data.sources.teacher_samples import TeacherSamples
from wand.files.contents import default_cache_dir
from wand.files.turns import ALL, Task
from wand.model.backbone import Backbone
from wand.model.text_tokens import longest_text
from wand.ranks import apart, first_decides, is_first

# Utterances with the longest prefixes, whose texts are measured.
LOOKED_AT = 256


class ConditionedModule(Protocol):
    """What a LightningModule must have so that `SpeechDataModule` can make its batches.

    Attributes:
        backbone: The model whose conditioner, layout and codec make the batches.
        final_window: The attention window at the end of training.
    """

    backbone: Backbone
    final_window: Windows


class SpeechDataModule(LightningDataModule):
    """Prepares a corpus once and batches it by length. Preparation is cached, restartable and shared by runs.

    The shards of a split are opened when a stage needs them. Their rows are read when a batch is made.

    Args:
        source: The speech corpus (docs/data.md lists the classes).
        batch_size: Largest number of utterances in a batch, per device.
        columns_per_batch: Largest number of columns in a batch, per device: prefix and speech of all utterances,
            padding included. Short utterances then come in larger batches, so raise `batch_size` as well. Null sets
            no limit.
        seed: Seed for the order of batches.
        cache_dir: Folder for prepared speech. Null is ``$WAND_CACHE``, or else the user's cache folder.
        workers: Number of processes that load and encode the audio during preparation. Speech that comes as codes needs
            none.
        codec: The model's codec, if its adapter has none (`wand.codecs.worker.WorkerCodec`).
        max_seconds: Longest recording to use, in seconds; longer ones are left out.
        copy_from: URL of a finished cache (``s3://bucket/cache``; fsspec opens it). Each machine copies its shards.

    Attributes:
        examples: The utterances of every split that has been set up. Each is read from disk on access.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        source: SpeechSource,
        batch_size: int = 16,
        seed: int = 0,
        cache_dir: str | Path | None = None,
        workers: int = 2,
        codec: Codec | None = None,
        max_seconds: float = 30.0,
        columns_per_batch: int | None = None,
        copy_from: str | None = None,
    ) -> None:
        super().__init__()
        check_whole_number("data.batch_size", batch_size, least=1, most=2**31 - 1)
        if columns_per_batch is not None:
            check_whole_number("data.columns_per_batch", columns_per_batch, least=1, most=2**31 - 1)
        check_whole_number("data.workers", workers, least=0, most=1024, hint="0 encodes in this process")
        check_whole_number("data.seed", seed, least=-(2**63), most=2**63 - 1)
        check_number("data.max_seconds", max_seconds, "(0, inf]")
        self.source = source
        self.bounds = BatchBounds(batch_size, columns_per_batch)
        self.seed = seed
        self.cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir)
        self.workers = workers
        self.codec = codec
        self.max_seconds = max_seconds
        self.copy_from = copy_from
        self.examples: dict[str, ShardedExamples] = {}
        self._train_loader: BatchLoader | None = None

    @property
    def speech(self) -> str:
        """What the data are, in words."""
        return "the teacher's own speech" if isinstance(self.source, TeacherSamples) else "recorded speech"

    @property
    def _module(self) -> ConditionedModule:
        # Not a runtime protocol: from Python 3.12 on, isinstance does not see the submodules of a module.
        module = self.trainer.lightning_module if self.trainer else None
        assert {"backbone", "final_window"} <= set(dir(module)), f"{type(module).__name__} lacks backbone or window"
        return cast(ConditionedModule, module)

    def prepare_for(self, backbone: Backbone, thorough: bool = False, task: Task = ALL) -> ShardCache:
        """Make the shards of a backbone that are not in the cache, or copy them.

        Args:
            backbone: The model.
            thorough: Read every byte of the shards that exist, and make the damaged ones again. Otherwise only their
                indexes are read, and a row is checked when it is needed.
            task: The shards to make; by default, all.

        Raises:
            ValueError: If shards cannot be made or copied.
        """
        self._give_codec(backbone)
        # A corpus keeps its lists; those of this copy are freed, because a fit reads from the shards alone.
        source = copy(self.source)
        if thorough:
            mend_cache(self._cache_for(source, backbone), task=task)
        if self.copy_from is not None:
            if task != ALL:
                raise ValueError(f"--shard {task} makes shards, and data.copy_from copies all: leave out one of them")
            copy_shards(cache := self._cache_for(source, backbone), self.copy_from)
            return cache
        return prepare(source, backbone, self.cache_dir, self.workers, max_seconds=self.max_seconds, task=task)

    def check_for(self, backbone: Backbone) -> ShardCache:
        """Read every utterance of the source, then every byte of a backbone's shards.

        Raises:
            ValueError: If a shard is damaged or missing.
        """
        self._give_codec(backbone)
        check_source(self.source, backbone, self.workers, self.max_seconds)
        cache = self._cache_for(self.source, backbone)
        check_cache(cache)
        return cache

    def _cache_for(self, source: SpeechSource, backbone: Backbone) -> ShardCache:
        return shard_cache(source, backbone, self.cache_dir, self.max_seconds)

    def _give_codec(self, backbone: Backbone) -> None:
        if self.codec is not None:
            backbone.codec = self.codec

    def setup(self, stage: str) -> None:
        """Make or copy the shards that are not in the cache, and open those of the splits that a stage needs.

        No row is read yet.
        """
        cache = self._finished_cache(self._module.backbone)
        needed = {"fit": ("train", "validation"), "validate": ("validation",), "test": ("test",)}
        for split in needed.get(stage, ()):
            if split not in self.examples or self.examples[split].fingerprint != cache.fingerprint:
                self.examples[split] = ShardedExamples(cache.files(split), cache.fingerprint)
        if stage == "fit":
            assert self.trainer is not None
            self._train_loader = self._loader("train", shuffle=True)
            limit = self.trainer.limit_train_batches
            self._train_loader.taken = limit if isinstance(limit, int) else int(len(self._train_loader) * limit)
            self._check_columns(self._train_loader)
            longest = longest_of(self._train_loader.lengths)
            self._module.backbone.longest_prefix = longest.prefix
            self._module.backbone.longest_text = self._longest_text(self._train_loader.lengths)
            self._warn_if_window_never_acts(longest.speech)

    def _longest_text(self, lengths: npt.NDArray[np.integer]) -> int | None:
        """Columns of the longest text in the training utterances with the longest prefixes."""
        examples = self.examples["train"]
        chosen = lengths[:, 0].argsort()[-LOOKED_AT:].tolist()
        return longest_text(self._module.backbone.conditioner, (examples[i].conditioning for i in chosen))

    def _finished_cache(self, backbone: Backbone) -> ShardCache:
        """The cache of this machine, with all shards. All processes must call this.

        One process per machine makes or copies the shards, because each machine may have its own cache. The fingerprint
        depends on the whole corpus, so rank 0 tells it to all. If shards are copied, only rank 0 reads the corpus.
        """
        assert self.trainer is not None
        self._give_codec(backbone)
        first_here = self.trainer.local_rank == 0
        own = None
        with apart("preparing data"):
            if self.copy_from is None and first_here:
                own = self.prepare_for(backbone)
            elif is_first():
                own = self._cache_for(copy(self.source), backbone)
        fingerprint = first_decides(None if own is None else own.fingerprint)
        assert fingerprint is not None, "rank 0 has the cache"
        cache = ShardCache(self.cache_dir / fingerprint, fingerprint)
        if self.copy_from is not None:
            with apart("copying data"):
                if first_here:
                    copy_shards(cache, self.copy_from)
        return cache

    def _check_columns(self, loader: BatchLoader) -> None:
        columns = self.bounds.columns
        if columns is None:
            return
        for i in (loader.lengths.sum(axis=1) > columns).nonzero()[0].tolist():
            length = Length(*loader.lengths[i].tolist())
            raise ValueError(
                f"data.columns_per_batch {columns} cannot hold utterance {loader.examples[i].id!r} ({length.prefix} + "
                f"{length.speech} columns): raise it, or lower data.max_seconds"
            )

    def _warn_if_window_never_acts(self, longest: int) -> None:
        window = self._module.final_window.smallest
        if window is not None and window >= longest:
            rank_zero_warn(
                f"model.window {window} is not smaller than the longest utterance ({longest} columns): it hides "
                f"nothing, so the student sees as much as the teacher"
            )

    @property
    def train_loader(self) -> BatchLoader:
        """The training loader; `setup` for the stage ``fit`` makes it."""
        assert self._train_loader is not None, "setup was not called for a fit"
        return self._train_loader

    def train_dataloader(self) -> BatchLoader:
        """Training batches in a new order every epoch; a resumed run continues where its checkpoint stopped."""
        return self.train_loader

    def val_dataloader(self) -> BatchLoader:
        """Batches by length, the same in every epoch."""
        return self._loader("validation", shuffle=False)

    def test_dataloader(self) -> BatchLoader:
        """Batches by length, the same in every epoch."""
        return self._loader("test", shuffle=False)

    def state_dict(self) -> dict[str, Any]:
        """The training position in the data. It counts batches that were trained on, not those that were prefetched.

        The datamodule keeps this state because Lightning creates the loader before it reads a checkpoint (to count
        the steps of an epoch) and does not restore the loader's state afterwards.
        """
        return {} if self._train_loader is None else self._train_loader.progress()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a fit from a stored position; `setup` has made its loader. A validation or test has no position."""
        assert self.trainer is not None
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.train_loader.resume(state_dict)

    def _loader(self, split: str, shuffle: bool) -> BatchLoader:
        assert self.trainer is not None
        backbone, examples = self._module.backbone, self.examples[split]
        return BatchLoader(
            examples,
            examples.lengths(backbone.layout),
            backbone.conditioner,
            backbone.layout,
            self.bounds,
            seed=self.seed,
            shuffle=shuffle,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            device=self.trainer.strategy.root_device,
        )
