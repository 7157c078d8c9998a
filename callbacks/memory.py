"""Says before a fit how much memory a step will take."""

from __future__ import annotations

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from wand.data.datamodule import SpeechDataModule
from wand.evaluation.memory import step_memory
from wand.module import WandModule


class MemoryEstimate(Callback):
    """Prints the memory of the largest step, counted from its shapes, and warns where the device has less."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count and print."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, SpeechDataModule):
            return
        assert isinstance(pl_module, WandModule)
        backbone = pl_module.backbone
        layout, examples = backbone.layout, data.examples["train"]
        speech = max(layout.columns_of(example.codes.shape[1]) for example in examples)
        prefix = max(backbone.conditioner.length(example.conditioning) for example in examples)
        counted = step_memory(
            backbone,
            data.batch_size,
            prefix + speech,
            speech + 1,
            mixed="mixed" in str(trainer.precision),
            with_teacher=pl_module.teacher is not None,
            checkpointing=pl_module.hparams["gradient_checkpointing"],
        )
        rank_zero_info(f"memory of a step, {data.batch_size} rows of {prefix} + {speech} columns: {counted}")
        device = pl_module.device
        if device.type == "cuda" and counted.total > (has := torch.cuda.get_device_properties(device).total_memory):
            rank_zero_warn(
                f"{device} has {has / 2**30:.1f} GiB, less than a step takes: lower data.batch_size, or set "
                f"model.gradient_checkpointing true"
            )
