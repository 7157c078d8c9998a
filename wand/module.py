"""WandModule: a windowed student, its full-attention teacher, the loss between them. No line knows a model."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRSchedulerConfig
from torch import Tensor, nn

from wand.attention import AttentionWindow, WindowPolicy, Windows
from wand.backbone import Backbone
from wand.checkpoints import load_backbone_and_settings
from wand.columns import ColumnLayout
from wand.conditioning import ConditionedBatch
from wand.distillation import IGNORE
from wand.evaluation.systems import System, compared_systems
from wand.fused_distillation import LossTerms
from wand.metrics.tokens import TokenMetrics
from wand.teacher import COPY, build_teacher

TEACHER_PREFIX = "teacher."


class WandModule(LightningModule):
    """Adapts a pretrained model to windowed attention: ``L = ce_weight * CE + kd_weight * skew KL`` (WAND, section 2).

    Training runs under `window`, which `WindowCurriculum` sets every step; validation, test and synthesis always run
    under the final hard window.

    Args:
        backbone: The model to adapt.
        window: W, speech columns in view at the end of training and ever after: one size for all layers, one for each,
            or a `WindowPolicy` that chooses them; null is full attention.
        teacher: ``copy`` (the original weights, frozen), a run folder or checkpoint of wand, or null for none.
        ce_weight: Weight of the cross-entropy against the speech itself.
        kd_weight: lambda, weight of the skew KL against the teacher.
        codebook_weights: Weight of every codebook's labels in the training loss; all alike by default. The first
            ones carry the words, the last ones are hardly predictable.
        skew: The teacher's share in the mixture of the skew KL.
        temperature: Of both models inside the skew KL.
        learning_rate: Peak, after warm-up (paper: 1e-5, for models of half a billion parameters).
        weight_decay: Of AdamW, on matrices.
        warmup: Share of the steps in which the learning rate rises linearly; then it falls on a cosine.
        gradient_checkpointing: Keep the inputs of layers only and compute the rest again on the way back: about a
            third more time for a fraction of the memory.

    Raises:
        ValueError: On a window or a weight outside its range.
    """

    def __init__(
        self,
        backbone: Backbone,
        window: int | list[int] | WindowPolicy | None = 32,
        teacher: str | None = "copy",
        ce_weight: float = 1.0,
        kd_weight: float = 1.0,
        codebook_weights: list[float] | None = None,
        skew: float = 0.1,
        temperature: float = 1.0,
        learning_rate: float = 1e-5,
        weight_decay: float = 0.01,
        warmup: float = 0.03,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.final_window = backbone.windows(window)
        if isinstance(window, int) and self.final_window.plain != window:
            whole = self.final_window.plain
            rank_zero_warn(f"model.window {window} is raised to {whole}: whole frames of this model's columns")
        # Plain values only: the checkpoint rebuilds the module from them, without the original weights.
        settings = {
            "backbone": backbone.spec(),
            "pretrained": backbone.pretrained,
            "window": self.final_window.plain,
            "teacher": teacher,
            "ce_weight": ce_weight,
            "kd_weight": kd_weight,
            "codebook_weights": codebook_weights,
            "skew": skew,
            "temperature": temperature,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "warmup": warmup,
            "gradient_checkpointing": gradient_checkpointing,
        }
        _check_settings(settings, backbone.layout)
        self._set_hparams(settings)
        self.backbone = backbone
        if gradient_checkpointing:
            backbone.decoder.activation_checkpointing_enable({"use_reentrant": False})
        self.teacher: Backbone | None = None
        self._original_loaded = False
        self.window: Windows = self.final_window
        # The teacher is in no checkpoint; on_load_checkpoint checks that nothing else is missing.
        self.register_state_dict_post_hook(_without_teacher)
        self.strict_loading = False
        self.validation_metrics = TokenMetrics(with_teacher=teacher is not None)
        # What a test compares; ComparisonTable may ask for more.
        self.systems = compared_systems(self.final_window, with_teacher=teacher is not None)
        self.test_metrics = nn.ModuleDict()

    def weights_of(self, system: System) -> Backbone:
        """The model that a row of the table runs."""
        if system.weights == "student":
            return self.backbone
        assert self.teacher is not None, f"{system.name} needs a teacher"
        return self.teacher

    # -- weights: original, teacher, checkpoint ------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read the original weights and make the teacher of them, before any checkpoint is loaded."""
        if self.backbone.pretrained is not None and not self._original_loaded:
            self.backbone.load_pretrained()
            self._original_loaded = True  # a test after a fit must not undo it
        if self.hparams["teacher"] is not None and self.teacher is None:
            if self.backbone.pretrained is None and self.hparams["teacher"] == COPY:
                raise ValueError(
                    "model.teacher is `copy`, but the backbone has no pretrained weights to copy: set "
                    "backbone.pretrained, or model.teacher null"
                )
            self.teacher = build_teacher(self.hparams["teacher"], self.backbone)

    def train(self, mode: bool = True) -> Self:
        """Training mode for the student; the teacher stays in eval mode."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what a resumed run needs beside the weights."""
        checkpoint["wand"] = {
            "pretrained_digest": None if self.backbone.pretrained is None else self.backbone.pretrained_digest(),
            "rng_state": torch.get_rng_state(),
            "files": {
                name: torch.frombuffer(bytearray(content), dtype=torch.uint8)
                for name, content in self.backbone.files.items()
            },
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is of this model, and that only the teacher is missing."""
        saved, own = checkpoint["hyper_parameters"]["backbone"], self.backbone.spec()
        if saved != own:
            raise ValueError(f"the checkpoint holds another backbone: {describe_difference(saved, own)}")
        keys = set(self.state_dict())
        if keys != set(checkpoint["state_dict"]):
            difference = sorted(keys ^ set(checkpoint["state_dict"]))
            raise ValueError(f"the checkpoint does not fit the model, beginning with the tensor {difference[0]!r}")
        for name, value in checkpoint["hyper_parameters"].items():
            if self.hparams.get(name) != value:
                rank_zero_warn(
                    f"model.{name} was {value} in the checkpoint and is {self.hparams.get(name)} now: what "
                    f"you gave wins"
                )
        extra = checkpoint.get("wand", {})
        digest = extra.get("pretrained_digest")
        if digest is not None and self.backbone.pretrained is not None and digest != self.backbone.pretrained_digest():
            raise ValueError(
                f"the original weights at {self.backbone.pretrained!r} have changed since this run began: the "
                f"teacher would be another; restore them or start a new run"
            )
        if "rng_state" in extra:
            torch.set_rng_state(extra["rng_state"].cpu())

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, map_location: Any = "cpu", **kwargs: Any) -> Self:  # type: ignore[override]
        """The student of a run, from the checkpoint alone: no original weights, no further argument.

        Args:
            checkpoint_path: Checkpoint file, run folder, or ``last``.
            map_location: Where to put it.
            **kwargs: Settings to override.
        """
        backbone, settings = load_backbone_and_settings(checkpoint_path)
        return cls(backbone, **{**settings, **kwargs}).to(map_location)

    # -- steps ---------------------------------------------------------------------------------------------------

    def training_step(self, batch: ConditionedBatch, batch_idx: int) -> Tensor:
        """Loss of one micro-batch, normalised by its labels on all ranks."""
        settings = self.hparams
        importance = self._label_weights(batch.labels)
        # A mean over ranks (DDP's of gradients, Lightning's of logs) of sums scaled like this is exact.
        scale = self.trainer.world_size / self._sum_over_ranks(importance.sum()).clamp(min=1)
        expected = None
        if self.teacher is not None:
            with torch.no_grad():
                expected = self.teacher.head_input(batch, AttentionWindow())
        terms = LossTerms(settings["ce_weight"], settings["kd_weight"], settings["skew"], settings["temperature"])
        student = self.backbone.head_input(batch, self.window)
        sums = student.loss(batch.labels, importance, terms, expected)
        loss = sums.loss * scale
        logs = {"train/ce": sums.ce * scale}
        if expected is not None:
            logs |= {f"train/{name}": getattr(sums, name) * scale for name in ("kd", "kl", "agreement")}
        logs |= {"train/loss": loss.detach(), "train/masked_share": masked_share(batch.lengths, self.window)}
        self.log_dict(logs, sync_dist=True, batch_size=len(batch))
        self.log("loss", loss.detach(), prog_bar=True, logger=False, batch_size=len(batch))
        return loss

    def _label_weights(self, labels: Tensor) -> Tensor:
        """``[B, T, K]``: the codebook's weight where there is a label, else 0."""
        valid = (labels != IGNORE).float()
        weights = self.hparams["codebook_weights"]
        return valid if weights is None else valid * torch.tensor(weights, device=labels.device)

    def on_train_batch_start(self, batch: ConditionedBatch, batch_idx: int) -> None:
        """Log the window in force, and tau while the mask is soft."""
        if self.window.largest is not None:
            self.log("train/window", float(self.window.largest), prog_bar=True)
            if self.window.tau is not None:
                self.log("train/tau", self.window.tau)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the learning rate, and the norm of the gradient before clipping."""
        grads = [p.grad for p in self.backbone.parameters() if p.grad is not None]
        self.log("train/grad_norm", torch.nn.utils.get_total_norm(grads))
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"])

    def validation_step(self, batch: ConditionedBatch, batch_idx: int) -> None:
        """Agreement with the teacher, true KL and CE under the final hard window."""
        expected = None if self.teacher is None else self.teacher.head_input(batch, AttentionWindow())
        own = self.backbone.head_input(batch, self.final_window)
        own.measure(batch.labels, expected, self.validation_metrics.update)

    def on_validation_epoch_end(self) -> None:
        """Log the means."""
        means = self.validation_metrics.compute()
        self.validation_metrics.reset()
        self.log_dict({f"val/{name}": value.float() for name, value in means.items()}, prog_bar=True)

    def on_test_start(self) -> None:
        """One metric for every system."""
        with_teacher = self.teacher is not None
        self.test_metrics = nn.ModuleDict({s.name: TokenMetrics(with_teacher) for s in self.systems}).to(self.device)

    def test_step(self, batch: ConditionedBatch, batch_idx: int) -> None:
        """The same for every system of the table."""
        expected = None if self.teacher is None else self.teacher.head_input(batch, AttentionWindow())
        for system in self.systems:
            known = expected if system.name == "teacher" else None
            own = known or self.weights_of(system).head_input(batch, system.window)
            own.measure(batch.labels, expected, self._test_metric(system).update)

    def on_test_epoch_end(self) -> None:
        """Log the means of every system."""
        for system in self.systems:
            means = self._test_metric(system).compute()
            self.log_dict({f"test/{system.name}/{name}": value.float() for name, value in means.items()})

    def _test_metric(self, system: System) -> TokenMetrics:
        metric = self.test_metrics[system.name]
        assert isinstance(metric, TokenMetrics)
        return metric

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW; linear warm-up, then a cosine to zero over the whole training."""
        matrices = [p for p in self.backbone.parameters() if p.requires_grad and p.ndim > 1]
        vectors = [p for p in self.backbone.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.hparams["weight_decay"]},
            {"params": vectors, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=self.hparams["learning_rate"])
        total = int(self.trainer.estimated_stepping_batches)
        warmup = max(1, round(self.hparams["warmup"] * total))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, warmup, total))
        scheduler = LRSchedulerConfigType(scheduler=schedule, interval="step")
        return OptimizerLRSchedulerConfig(optimizer=optimizer, lr_scheduler=scheduler)

    def _sum_over_ranks(self, value: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(value.clone().float(), reduce_op="sum")


def _without_teacher(module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: dict[str, Any]) -> None:
    """State-dict hook: drop the teacher's weights."""
    for key in [key for key in state if key.startswith(prefix + TEACHER_PREFIX)]:
        del state[key]


def learning_rate_factor(step: int, warmup: int, total: int) -> float:
    """Share of the peak learning rate at a step: linear rise over `warmup` steps, cosine to 0 at `total`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.5 * (1 + math.cos(math.pi * progress))


def masked_share(lengths: Tensor, window: Windows) -> Tensor:
    """Share of label columns whose query sees less than the teacher's: those beyond the smallest window."""
    if window.smallest is None:
        return torch.zeros((), device=lengths.device)
    return (lengths - window.smallest).clamp(min=0).sum() / (lengths + 1).sum()


def describe_difference(saved: dict[str, Any], own: dict[str, Any]) -> str:
    """The first thing in which two backbone specs differ."""
    if saved["class_path"] != own["class_path"]:
        return f"{saved['class_path']}, not {own['class_path']}"
    for key, value in saved["architecture"].items():
        if own["architecture"].get(key) != value:
            return f"its {key} is {value}, not {own['architecture'].get(key)}"
    return "its architecture has other settings"


def _check_settings(settings: dict[str, Any], layout: ColumnLayout) -> None:
    importance = settings["codebook_weights"]
    if importance is not None and (
        len(importance) != layout.num_codebooks or min(importance) < 0 or sum(importance) == 0
    ):
        raise ValueError(
            f"model.codebook_weights {importance} are not {layout.num_codebooks} weights, none negative, not all zero"
        )
    teacher = settings["teacher"]
    ce_weight, kd_weight = settings["ce_weight"], settings["kd_weight"]
    if ce_weight < 0 or kd_weight < 0 or (ce_weight == 0 and (kd_weight == 0 or teacher is None)):
        raise ValueError(
            f"model.ce_weight {ce_weight} and kd_weight {kd_weight} leave nothing to learn from: "
            "none is negative, and one that applies is positive"
        )
    if not 0 <= settings["skew"] < 1:
        raise ValueError(f"model.skew {settings['skew']} is outside [0, 1): it is the teacher's share in the mixture")
    if settings["temperature"] <= 0:
        raise ValueError(f"model.temperature {settings['temperature']} is not positive")
    if not 0 <= settings["warmup"] < 1:
        raise ValueError(f"model.warmup {settings['warmup']} is outside [0, 1): it is a share of the training steps")
