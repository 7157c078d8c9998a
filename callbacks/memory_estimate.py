"""An estimate, before a fit, of the memory that a step takes."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from wand.data.datamodule import SpeechDataModule
from wand.training.memory import step_memory
from wand.training.memory_parts import Step
from wand.training.module import WandModule
from wand.training.teacher import NoTeacher


class MemoryEstimate(Callback):
    """Prints the memory of the largest step, computed from its shapes, and warns if the device has less.

    It also prints the share of padding in the batches of the first epoch.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count and print."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, SpeechDataModule):
            return
        assert isinstance(pl_module, WandModule)
        rows, (prefix, speech) = data.train_loader.largest()
        teacher = pl_module.teacher
        counted = step_memory(
            pl_module.backbone.blueprint,
            Step(
                rows,
                prefix + speech,
                speech + 1,
                mixed="mixed" in str(trainer.precision),
                teacher=None if isinstance(teacher, NoTeacher) else "shared" if teacher.shares_weights else "own",
                checkpointing=pl_module.settings.gradient_checkpointing,
                device=pl_module.device.type,
                # Without this setting, DDP copies gradients into its buckets.
                buckets=not getattr(trainer.model, "gradient_as_bucket_view", True),
                shards=trainer.world_size if pl_module.backbone.is_sharded else None,
            ),
        )
        rank_zero_info(
            f"memory of a step, {rows} rows of {prefix} + {speech} columns: {counted}\n"
            f"padding of the batches: {data.train_loader.padding():.1%}"
        )
        device = pl_module.device
        if device.type == "cuda" and counted.total > (has := torch.cuda.get_device_properties(device).total_memory):
            rank_zero_warn(
                f"{device} has {has / 2**30:.1f} GiB, which is less than a step takes: lower data.columns_per_batch "
                f"or data.batch_size, or set model.gradient_checkpointing to true"
            )
