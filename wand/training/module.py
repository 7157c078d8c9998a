"""WandModule trains a windowed student against its full-attention teacher. It works with every backbone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from numbers import Integral
from typing import Any, Self

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRSchedulerConfig
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR

from wand.attention import WindowPolicy, Windows
from wand.console.interrupt import SIGNALS, stop_requested
from wand.distillation.chunked import LossSums
from wand.distillation.divergences import DIVERGENCES, find_divergence
from wand.distillation.losses import IGNORE
from wand.distillation.terms import LossTerms
from wand.evaluation.prediction import PredictionTest
from wand.evaluation.systems import ComparedSystem, Weights, compared_systems
from wand.finite import check_weights, find_non_finite, tensors_in
from wand.lora import LoraSettings, inject
from wand.metrics.tokens import TokenMetrics
from wand.model.backbone import Backbone
from wand.model.batch import ConditionedBatch
from wand.model.columns import ColumnLayout
from wand.ranks import gather
from wand.runs.checkpoints import load_backbone_and_settings
from wand.runs.settings import OptimizerSettings, RunSettings, flat_settings
from wand.runs.trust import trusting
from wand.training.accumulation import Accumulation, MicroBatch
from wand.training.fit import check_fit
from wand.training.optimizer import make_optimizer, total_steps, use_settings
from wand.training.random_state import random_state, restore_random_state
from wand.training.skipping import REMEDY, SkippedSteps, blame, gradients_and_losses_finite, non_finite_parts
from wand.training.teacher import COPY, SELF, NoTeacher, SelfTeacher, Teacher, build_teacher, weights_of

DEFAULT_LOSS = LossTerms()
DEFAULT_OPTIMIZER = OptimizerSettings()


class WandModule(LightningModule):
    """Adapts a pretrained model to windowed attention by distilling its full-attention teacher (WAND, section 2).

    Training runs under `window`, which `WindowCurriculum` sets at every step. Validation, test and synthesis always run
    under the final hard window.

    Args:
        backbone: The model to adapt.
        window: Final window W: how many speech columns a step sees at the end of training and in all use afterwards.
            One size for all layers; a list with one size per layer; a default and the layers that differ, as in
            ``{default: 32, layers: {0: 64}}``; a YAML file with one of these, such as the ``windows.yaml`` of ``wand
            analyze``; or a `WindowPolicy`. Null is full attention.
        teacher: The teacher: ``copy`` (a frozen copy of the original weights), ``self`` (the student without its
            adapters), a run folder or checkpoint of wand, or null for no teacher.
        gradient_checkpointing: Whether to store only each layer's input and recompute the rest in the backward pass.
            This takes about a third more time and a fraction of the memory.
        loss: Settings of the training loss.
        optimizer: Settings of the optimizer and the learning rate schedule.
        lora: Train adapters (LoRA) in place of the weights, see `LoraSettings`; null trains the weights.

    Raises:
        ValueError: If a setting is out of range or does not fit the backbone.
    """

    def __init__(
        self,
        backbone: Backbone,
        window: int | list[int] | dict[str, int | dict[int, int]] | WindowPolicy | str | None = 32,
        teacher: str | None = "copy",
        gradient_checkpointing: bool = False,
        loss: LossTerms = DEFAULT_LOSS,
        optimizer: OptimizerSettings = DEFAULT_OPTIMIZER,
        lora: LoraSettings | None = None,
    ) -> None:
        super().__init__()
        self.final_window = backbone.windows(window)
        if isinstance(window, Integral) and self.final_window.plain != window:
            whole = self.final_window.plain
            rank_zero_warn(f"model.window {window} is raised to {whole}, a whole number of this model's frames")
        self.settings = RunSettings(self.final_window.plain, teacher, gradient_checkpointing, loss, optimizer, lora)
        _check_layout(self.settings, backbone.layout)
        _check_divergence(loss)
        if lora is not None:
            lora.check(backbone.decoder)
        # Plain values only, so that the checkpoint can rebuild the module without the original weights.
        self._set_hparams({"backbone": backbone.spec(), "pretrained": backbone.pretrained, **self.settings.to_plain()})
        self.backbone = backbone
        if gradient_checkpointing:
            backbone.decoder.activation_checkpointing_enable({"use_reentrant": False})
        # A copy and LoRA need the original weights; see `setup`.
        self.teacher: Teacher = SelfTeacher(backbone) if teacher == SELF and lora is None else NoTeacher(backbone)
        self._is_set_up = False
        self._accumulation = Accumulation()
        self._schedule: LambdaLR | None = None
        self.skipped_steps = SkippedSteps()
        # The signal that some rank had received before the last step of the optimizer; 0 if none. `StopAtSignal` acts.
        self.stop_signal = 0
        self.window: Windows = self.final_window
        self.strict_loading = False  # checkpoints do not contain the teacher; on_load_checkpoint checks the rest
        self.validation_metrics = TokenMetrics(with_teacher=teacher is not None)
        # The systems that a test compares; ComparisonTable may replace them.
        self.systems = compared_systems(self.final_window, with_teacher=teacher is not None)
        self.test_means: dict[str, dict[str, float]] = {}
        self._prediction: PredictionTest | None = None

    def weights_of(self, system: ComparedSystem, gathered: bool = False) -> Weights:
        """Return the function that opens a ``with`` block and gives the model of a system.

        Args:
            system: The system.
            gathered: Whether the model must have all its parameters on this rank; see `Backbone.gathered`.
        """
        if system.weights == "student":
            return partial(weights_of, self.backbone, gathered)
        return partial(self.teacher.weights, gathered)

    # -- weights: original, teacher, checkpoint ------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Load the original weights, then build the teacher and add the adapters, before any checkpoint is loaded."""
        if self._is_set_up:
            return  # a test after a fit must not overwrite the trained weights
        pretrained, teacher, lora = self.backbone.pretrained, self.settings.teacher, self.settings.lora
        if pretrained is not None:
            self.backbone.load_pretrained()
        if isinstance(self.teacher, NoTeacher) and teacher != SELF:
            if pretrained is None and teacher == COPY:
                raise ValueError(
                    "model.teacher is `copy`, but the backbone has no pretrained weights to copy: set "
                    "backbone.pretrained, or set model.teacher to null"
                )
            self.teacher = build_teacher(teacher, self.backbone)
        if lora is not None:
            if pretrained is None:  # the checkpoints would lack the weights that the adapters belong to
                raise ValueError(
                    "model.lora is set, but the backbone has no pretrained weights to adapt: set "
                    "model.backbone.init_args.pretrained, or set model.lora to null"
                )
            inject(self.backbone, self.backbone.decoder, lora)
            if teacher == SELF:
                self.teacher = SelfTeacher(self.backbone)
        self._is_set_up = True

    def configure_model(self) -> None:
        """Shard student and teacher over the ranks, if the strategy shards (FSDP2)."""
        mesh = self.device_mesh
        if mesh is None or self.backbone.is_sharded:
            return
        if mesh["tensor_parallel"].size() > 1:
            raise ValueError(
                f"trainer.strategy.tensor_parallel_size {mesh['tensor_parallel'].size()} is not supported: use wand's "
                f"ShardedStrategy (`--config strategy/fsdp`), or set it to 1 and data_parallel_size to the number of "
                f"processes"
            )
        dtype = torch.bfloat16 if self.trainer.precision == "bf16-mixed" else None
        self.teacher.parallelize(mesh["data_parallel"], dtype)
        self.backbone.parallelize(mesh["data_parallel"], dtype)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what a resumed run needs besides the weights."""
        checkpoint["hyper_parameters"]["backbone"] = self.backbone.spec()  # its facts are known since the fit began
        checkpoint["wand"] = {
            "pretrained_digest": None if self.backbone.pretrained is None else self.backbone.pretrained_digest(),
            "skipped_steps": self.skipped_steps.state_dict(),
            "files": {
                name: torch.frombuffer(bytearray(content), dtype=torch.uint8)
                for name, content in self.backbone.files.items()
            },
            **random_state(self.device),
            **checkpoint.get("wand", {}),  # a callback may have given another random state
        }

    def check_fit(self, hyper_parameters: dict[str, Any], shapes: Mapping[str, torch.Size]) -> None:
        """Check that a checkpoint with these tensors belongs to this model; see `check_fit`."""
        own = {name: tensor.shape for name, tensor in self.state_dict().items()}
        check_fit(hyper_parameters, shapes, self.backbone.spec(), self.settings.lora, own)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint fits, and restore what a resumed run needs besides the weights."""
        stored = checkpoint["hyper_parameters"]
        if "state_dict" in checkpoint:  # `ShardedStrategy` has checked and loaded the weights already
            weights = checkpoint["state_dict"]
            self.check_fit(stored, {name: tensor.shape for name, tensor in weights.items()})
            check_weights(weights, "the checkpoint")
            if self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING:
                check_weights(dict(tensors_in(checkpoint["optimizer_states"], "optimizer")), "the checkpoint")
                if self._trainer.strategy.root_device.type == "cpu":
                    # The optimizer would keep these tensors, which are a memory map of the file.
                    checkpoint["optimizer_states"] = deepcopy(checkpoint["optimizer_states"])
        earlier = flat_settings(RunSettings.from_plain(stored).to_plain())
        earlier["backbone.init_args.pretrained"] = stored["pretrained"]
        present = flat_settings(self.settings.to_plain())
        present["backbone.init_args.pretrained"] = self.backbone.pretrained
        for name, now in present.items():
            if earlier[name] != now:
                rank_zero_warn(
                    f"model.{name} was {earlier[name]} in the checkpoint and is {now} now: the new value is used"
                )
        extra = checkpoint.get("wand", {})
        digest = extra.get("pretrained_digest")
        if digest is not None and self.backbone.pretrained is not None and digest != self.backbone.pretrained_digest():
            raise ValueError(
                f"the original weights at {self.backbone.pretrained!r} have changed since this run began, so the "
                f"teacher would be different: restore them or start a new run"
            )
        # Lightning moves the module to its device only after this.
        restore_random_state(extra, self.device if self._trainer is None else self._trainer.strategy.root_device)
        if "skipped_steps" in extra:  # older checkpoints have none
            self.skipped_steps.load_state_dict(extra["skipped_steps"])

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: Any, map_location: Any = "cpu", *, trust: bool = False, **kwargs: Any
    ) -> Self:
        """Load the student of a run. Only the checkpoint is needed, not the original weights.

        Args:
            checkpoint_path: Checkpoint file, run folder, or ``last``.
            map_location: Device for the module.
            trust: Start code that the checkpoint names, as in `wand.load`.
            **kwargs: Settings that replace those of the run.
        """
        with trusting(trust):
            backbone, settings = load_backbone_and_settings(checkpoint_path)
        return cls(backbone, **{**vars(settings), **kwargs}).to(map_location)

    # -- steps ---------------------------------------------------------------------------------------------------

    def training_step(self, batch: ConditionedBatch, batch_idx: int) -> Tensor:
        """Loss of one micro-batch, normalised by the labels of all micro-batches of this step so far, on all ranks.

        It logs the mean losses over these labels. The values of the last micro-batch are those of the whole step.
        """
        importance = self._label_weights(batch.labels)
        labels = self._sum_over_ranks(importance.sum())
        expected = self.teacher.head_input(batch)
        student = self.backbone.head_input(batch, self.window)
        sums = student.loss(batch.labels, importance, self.settings.loss, expected)
        step = self._accumulation
        step.add(MicroBatch(batch.ids, labels, sums._replace(loss=sums.loss.detach())))
        # With this scale, the mean over ranks (of gradients in DDP, of logs in Lightning) is exact.
        scale = self.trainer.world_size / step.labels
        names = ("loss", "ce") if expected is None else LossSums._fields
        logs = {f"train/{name}": getattr(step.sums, name) * scale for name in names}
        self.log("loss", logs["train/loss"], prog_bar=True, logger=False, batch_size=len(batch))
        logs["train/masked_share"] = masked_share(batch.lengths, self.window)
        self.log_dict(logs, sync_dist=True, batch_size=len(batch))
        # Lightning divides by the number of micro-batches.
        return sums.loss * scale * self.trainer.accumulate_grad_batches

    def on_train_epoch_start(self) -> None:
        """Forget the micro-batches of a step that was not completed."""
        self._accumulation.clear()

    def on_before_backward(self, loss: Tensor) -> None:
        """Scale the gradients of the micro-batches before this one."""
        # Those of the optimizer: between forward and backward pass, FSDP2 has others in their place in the module.
        (optimizer,) = self.trainer.optimizers
        self._accumulation.scale_gradients(p for group in optimizer.param_groups for p in group["params"])

    def _label_weights(self, labels: Tensor) -> Tensor:
        """``[B, T, K]``: the codebook's weight where there is a label, else 0."""
        valid = (labels != IGNORE).float()
        weights = self.settings.loss.codebook_weights
        return valid if weights is None else valid * torch.tensor(weights, device=labels.device)

    def on_train_start(self) -> None:
        """Refuse a clipping norm of NaN, which would make every gradient NaN; use the optimizer's own settings."""
        if (norm := self.trainer.gradient_clip_val) is not None and math.isnan(norm):
            raise ValueError(f"trainer.gradient_clip_val {norm} is not a number: give a norm, or null for no clipping")
        if self._schedule is not None:
            use_settings(self._schedule, self.settings.optimizer)

    def on_train_end(self) -> None:
        """Refuse weights that the last step has made NaN or infinite."""
        self._check_own_weights()

    def on_train_batch_start(self, batch: ConditionedBatch, batch_idx: int) -> None:
        """Log the current window, and tau while the mask is soft."""
        if self.window.largest is not None:
            self.log("train/window", float(self.window.largest), prog_bar=True)
            if self.window.tau is not None:
                self.log("train/tau", self.window.tau)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the learning rate and the gradient norm before clipping; skip the step if it is not finite."""
        grads = [p.grad for p in self.backbone.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        finite = self._agree(gradients_and_losses_finite(norm, self._accumulation.parts))
        if finite:
            self.skipped_steps.taken()
        else:
            # Without gradients, the optimizer changes neither parameters nor moments. The step still counts.
            optimizer.zero_grad(set_to_none=True)
            rank_zero_warn(self.skipped_steps.skipped(self.trainer.global_step, self._blamed()))
        self._accumulation.clear()
        self.log("train/grad_norm", norm)
        self.log("train/skipped_steps", float(self.skipped_steps.total))
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"])

    def _blamed(self) -> str:
        """Say what is not finite in this step, on all ranks.

        Raises:
            ValueError: If the weights are not finite, so that no later step can be.
        """
        self._check_own_weights()
        parts = self._accumulation.parts
        ranks = gather((non_finite_parts(parts), [name for part in parts for name in part.ids]))
        return blame([found for found, _ in ranks], [name for _, own in ranks for name in own], len(parts))

    def _check_own_weights(self) -> None:
        weights = ((n, p.to_local() if isinstance(p, DTensor) else p) for n, p in self.backbone.named_parameters())
        broken = [name for name in gather(find_non_finite(weights)) if name is not None]
        if broken:
            raise ValueError(
                f"after {self.trainer.global_step} steps the weights are not finite, first {broken[0]!r}: {REMEDY}"
            )

    def validation_step(self, batch: ConditionedBatch, batch_idx: int) -> None:
        """Agreement with the teacher, true KL and CE under the final hard window."""
        expected = self.teacher.head_input(batch)
        own = self.backbone.head_input(batch, self.final_window)
        own.measure(batch.labels, expected, self.validation_metrics.update)

    def on_validation_epoch_end(self) -> None:
        """Log the means."""
        means = self.validation_metrics.compute()
        self.validation_metrics.reset()
        self.log_dict({f"val/{name}": value.float() for name, value in means.items()}, prog_bar=True)

    def on_test_start(self) -> None:
        """Start the measurement of every system."""
        self._prediction = PredictionTest({system: self.weights_of(system) for system in self.systems})

    def test_step(self, batch: ConditionedBatch, batch_idx: int) -> None:
        """Update the token metrics of every system."""
        assert self._prediction is not None
        self._prediction.update(batch)

    def on_test_epoch_end(self) -> None:
        """Log the means of every system; `ComparisonTable` reads them from `test_means`."""
        assert self._prediction is not None
        self.test_means, self._prediction = self._prediction.means(), None
        for name, means in self.test_means.items():
            self.log_dict({f"test/{name}/{metric}": value for metric, value in means.items()})

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer and its learning rate schedule, which advances at every step."""
        total = total_steps(self.trainer)
        optimizer, self._schedule = make_optimizer(self.backbone.parameters(), self.settings.optimizer, total)
        scheduler = LRSchedulerConfigType(scheduler=self._schedule, interval="step")
        return OptimizerLRSchedulerConfig(optimizer=optimizer, lr_scheduler=scheduler)

    def _sum_over_ranks(self, value: Tensor) -> Tensor:
        return self.trainer.strategy.reduce(value.clone().float(), reduce_op="sum")

    def _agree(self, finite: Tensor) -> bool:
        """Whether a step is finite on every rank; also sets `stop_signal`. Waits for the device."""
        asked = torch.tensor([float(stop_requested() == number) for number in SIGNALS], device=finite.device)
        broken, *stopped = self._sum_over_ranks(torch.cat([(~finite).float()[None], asked])).tolist()
        self.stop_signal = next((number for number, ranks in zip(SIGNALS, stopped, strict=True) if ranks), 0)
        return broken == 0


def masked_share(lengths: Tensor, window: Windows) -> Tensor:
    """Share of label columns that see less than the teacher does, because they lie beyond the smallest window."""
    if window.smallest is None:
        return torch.zeros((), device=lengths.device)
    return (lengths - window.smallest).clamp(min=0).sum() / (lengths + 1).sum()


def _check_layout(settings: RunSettings, layout: ColumnLayout) -> None:
    weights = settings.loss.codebook_weights
    if weights is not None and len(weights) != layout.num_codebooks:
        raise ValueError(
            f"model.loss.codebook_weights {weights} has {len(weights)} values, but this model needs "
            f"{layout.num_codebooks} weights, one per codebook"
        )


def _check_divergence(loss: LossTerms) -> None:
    find_divergence(loss.divergence)
    if loss.divergence in DIVERGENCES and loss.divergence != "skew_kl" and loss.skew != LossTerms.skew:
        rank_zero_warn(f"model.loss.skew {loss.skew} has no effect: model.loss.divergence is {loss.divergence}")
