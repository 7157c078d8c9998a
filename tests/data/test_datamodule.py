"""The datamodule under a real Trainer, for a module that is not a `WandModule`."""

from __future__ import annotations

import dataclasses
import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tests.data.test_prepare import Tones
from wand.attention import AttentionWindow
from wand.backbones.encodec_lm import EncodecLM
from wand.data import prepare as preparation
from wand.data.datamodule import SpeechDataModule
from wand.data.sources.manifest import ManifestCorpus
from wand.data.sources.source import SpeechCodes, Utterance
from wand.model.batch import ConditionedBatch


class Coded(Tones):
    """Utterances with codes of their own, of different lengths."""

    coded = True

    def utterances(self, split: str) -> list[Utterance]:
        count = {"train": 23, "validation": 3, "test": 2}[split]
        return [Utterance(f"{split}-{i}", f"hello {'ab'[i % 2]}", f"speaker-{i % 2}") for i in range(count)]

    def codes(self, utterance: Utterance) -> SpeechCodes:
        index = int(utterance.id.rsplit("-", 1)[1])
        return SpeechCodes((torch.arange(3 * (40 + 7 * index % 11)).view(3, -1) + index) % 16)


class Listener(LightningModule):
    """Trains nothing of interest, and keeps what it was given."""

    def __init__(self, backbone: EncodecLM, window: int | None = 8) -> None:
        super().__init__()
        self.backbone = backbone
        self.final_window = AttentionWindow(window)
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.given: list[Tensor] = []

    def training_step(self, batch: ConditionedBatch, batch_idx: int) -> Tensor:
        self.given.append(batch.columns)
        return self.weight * batch.columns.float().mean()

    def validation_step(self, batch: ConditionedBatch, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAt(Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "UTTERANCES_PER_SHARD", 5)


def fit(
    module: Listener, data: SpeechDataModule, *callbacks: Callback, ckpt_path: Path | None = None, **settings: Any
) -> None:
    quiet = {f"enable_{name}": False for name in ("checkpointing", "progress_bar", "model_summary")}
    settings = {"max_epochs": 2, **quiet, **settings}
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[*callbacks], **settings)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)


def assert_same(given: list[Tensor], expected: list[Tensor]) -> None:
    assert len(given) == len(expected) > 0
    assert all(torch.equal(one, other) for one, other in zip(given, expected, strict=True))


def test_the_lists_of_a_corpus_are_freed_after_the_preparation(tiny_lm: EncodecLM, tmp_path: Path) -> None:
    codes = [[(i + k) % 16 for i in range(60)] for k in range(3)]
    lines = [
        {"id": f"freed-{split}", "text": "hello a", "split": split, "codes": codes}
        for split in ("train", "validation", "test")
    ]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = SpeechDataModule(ManifestCorpus(str(tmp_path / "list.jsonl")), cache_dir=str(tmp_path / "cache"), workers=0)
    assert data.prepare_for(tiny_lm).finished() == {"train": 1, "validation": 1, "test": 1}
    gc.collect()
    assert not [o for o in gc.get_objects() if type(o) is Utterance and o.id.startswith("freed-")]


@pytest.fixture
def make(tiny_lm: EncodecLM, tmp_path: Path) -> Any:
    def make(**settings: Any) -> tuple[Listener, SpeechDataModule]:
        return Listener(tiny_lm), SpeechDataModule(Coded(), cache_dir=tmp_path, workers=0, batch_size=4, **settings)

    return make


def test_a_module_needs_a_backbone_and_a_window(make):
    module, data = make()
    fit(module, data)
    assert len(module.given) == 2 * 6
    assert [len(examples) for examples in data.examples.values()] == [23, 3]


@pytest.mark.parametrize("step", [1, 4, 6, 8])
def test_a_run_goes_on_exactly_where_it_stood(make, tmp_path, step):
    """Some batches had been made beyond the checkpoint: they are made again, none is left out."""
    undisturbed, data = make()
    fit(undisturbed, data, SaveAt(step, tmp_path / "middle.ckpt"))
    resumed, again = make()
    fit(resumed, again, ckpt_path=tmp_path / "middle.ckpt")
    assert_same(resumed.given, undisturbed.given[step:])


class SaveAtEpoch(SaveAt):
    """Saves at the end of an epoch, as `ModelCheckpoint` does."""

    def on_train_batch_end(self, *rest: Any) -> None:
        pass

    def on_train_epoch_end(self, trainer: Trainer, *rest: Any) -> None:
        SaveAt.on_train_batch_end(self, trainer)


@pytest.mark.parametrize("settings", [{"limit_train_batches": 4}, {"limit_train_batches": 0.7}], ids=str)
@pytest.mark.parametrize(("step", "saving"), [(3, SaveAt), (8, SaveAt), (8, SaveAtEpoch), (9, SaveAt)])
def test_a_run_with_a_limit_of_batches_goes_on_exactly_where_it_stood(make, tmp_path, settings, step, saving):
    undisturbed, data = make()
    fit(undisturbed, data, saving(step, tmp_path / "middle.ckpt"), max_epochs=4, **settings)
    assert len(undisturbed.given) == 4 * 4, "4 of 6 batches in each epoch"
    resumed, again = make()
    fit(resumed, again, ckpt_path=tmp_path / "middle.ckpt", max_epochs=4, **settings)
    assert_same(resumed.given, undisturbed.given[step:])


def test_a_resumed_run_that_reloads_its_data_goes_on(make, tmp_path):
    settings = {"reload_dataloaders_every_n_epochs": 1, "max_epochs": 4}
    undisturbed, data = make()
    fit(undisturbed, data, SaveAt(8, tmp_path / "middle.ckpt"), **settings)
    resumed, again = make()
    fit(resumed, again, ckpt_path=tmp_path / "middle.ckpt", **settings)
    assert_same(resumed.given, undisturbed.given[8:])


def test_the_data_of_a_resumed_fit_start_anew_in_the_next(make, tmp_path):
    undisturbed, data = make()
    fit(undisturbed, data, SaveAt(8, tmp_path / "middle.ckpt"))
    resumed, again = make()
    fit(resumed, again, ckpt_path=tmp_path / "middle.ckpt")
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.validate(resumed, datamodule=again, ckpt_path=tmp_path / "middle.ckpt", weights_only=True)
    fresh, _ = make()
    fit(fresh, again)
    assert_same(fresh.given, undisturbed.given)


def test_a_validation_from_a_checkpoint_leaves_a_later_fit_alone(make, tmp_path):
    undisturbed, data = make()
    fit(undisturbed, data, SaveAt(8, tmp_path / "middle.ckpt"))
    fresh, again = make()
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.validate(fresh, datamodule=again, ckpt_path=tmp_path / "middle.ckpt", weights_only=True)
    fit(fresh, again)
    assert_same(fresh.given, undisturbed.given)


def test_another_backbone_gets_its_own_shards(make, tiny_lm, tmp_path):
    module, data = make()
    fit(module, data)
    first = {split: examples.fingerprint for split, examples in data.examples.items()}
    torch.manual_seed(0)
    other = Listener(EncodecLM(architecture=dataclasses.replace(tiny_lm.shape, codebook_size=32)))
    fit(other, data)
    alone = SpeechDataModule(Coded(), cache_dir=tmp_path, workers=0, batch_size=4)
    fit(Listener(other.backbone), alone)
    second = {split: examples.fingerprint for split, examples in data.examples.items()}
    assert second == {split: examples.fingerprint for split, examples in alone.examples.items()}
    assert all(second[split] != first[split] for split in first)


def test_a_shard_that_is_damaged_while_training_stops_the_run_and_is_named(make, tmp_path):
    module, data = make()

    class Damage(Callback):
        def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
            for path in sorted(tmp_path.glob("*/train-*")):
                content = bytearray(path.read_bytes())
                content[-1] ^= 1
                path.write_bytes(content)

    with pytest.raises(ValueError, match=r"^shard .*train-0000\d.safetensors is damaged .*: run `wand prepare`, .*$"):
        fit(module, data, Damage())
    assert 0 < len(module.given) < 12


def test_an_utterance_above_the_bound_of_columns_is_named(make):
    module, data = make(columns_per_batch=60)
    with pytest.raises(ValueError, match=r"columns_per_batch 60 cannot hold utterance 'train-\d+' \(\d+ \+ \d+ col"):
        fit(module, data)


def test_a_window_that_hides_nothing_is_told(make):
    module, data = make()
    module.final_window = AttentionWindow(60)
    with pytest.warns(UserWarning, match=r"window 60 is not smaller than the longest utterance \(5\d columns\)"):
        fit(module, data)


def test_what_is_prepared_is_opened_without_a_look_at_the_corpus(make, monkeypatch):
    fit(*make())

    def listed(self: Coded, split: str) -> list[Utterance]:
        raise AssertionError("the corpus was listed")

    monkeypatch.setattr(Coded, "utterances", listed)
    module, data = make()
    fit(module, data)
    assert len(module.given) == 2 * 6
