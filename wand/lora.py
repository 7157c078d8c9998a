"""LoRA: small trained matrices beside the frozen projections of a decoder (Hu et al. 2021), with the package peft.

A model has one copy of its original weights. With its adapters it is the student, without them the teacher.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from wand.checks import check_number, check_whole_number
from wand.files.weights import write_safetensors

ADAPTER = "default"  # peft's name of an adapter, which it inserts into the names of the tensors


@dataclass(frozen=True)
class LoraSettings:
    """The adapters: the weight W of a projection becomes ``W + alpha / rank * B A``, and only A and B are trained.

    Args:
        rank: Number of rows of A and of columns of B.
        alpha: Scale of the adapters, before the division by the rank.
        targets: Names of the projections that get adapters, as the decoder has them (``q_proj``); null is all of them.

    Raises:
        ValueError: If a number is out of range, or a target is not a name.
    """

    rank: int = 16
    alpha: float = 32.0
    targets: list[str] | None = None

    def __post_init__(self) -> None:
        check_whole_number("model.lora.rank", self.rank, least=1)
        check_number("model.lora.alpha", self.alpha, "(0, inf)")
        if self.targets is not None and not (self.targets and all(self.targets)):
            raise ValueError(f"model.lora.targets {self.targets}: give names of projections, or null for all of them")

    def check(self, decoder: PreTrainedModel) -> None:
        """Check that peft is installed and that the decoder has the targets.

        Raises:
            ValueError: If not.
        """
        check_peft()
        names = _projections(decoder)
        for target in self.targets or ():
            if not any(f".{name}".endswith(f".{target}") for name in names):
                known = ", ".join(_kinds(names))
                raise ValueError(f"model.lora.targets: this model has no projection {target!r}; it has {known}")


def check_peft() -> None:
    """Check that peft is installed.

    Raises:
        ValueError: If not.
    """
    if find_spec("peft") is None:
        raise ValueError("model.lora needs peft, which is not installed: pip install 'wand-tts[lora]'")


def inject(model: nn.Module, decoder: PreTrainedModel, settings: LoraSettings) -> None:
    """Freeze a model and add adapters to its decoder, in place. They change nothing until they are trained.

    From then on, the state dict of the model holds only what is trained.

    Args:
        model: The model that contains the decoder.
        decoder: The transformers body.
        settings: Size and places of the adapters.

    Raises:
        ValueError: If peft is not installed, or the decoder has no such projections.
    """
    settings.check(decoder)
    from peft import inject_adapter_in_model

    model.requires_grad_(False)
    # Drawn from the seed and not from the state of the generator, which may differ between processes. When DDP starts,
    # Lightning sets the seed of `seed_everything` again, so one process starts from other numbers than two only if
    # torch.manual_seed has set another seed since then, which no command does.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(torch.initial_seed())
        inject_adapter_in_model(_peft_config(decoder, settings), decoder, ADAPTER)
    model.register_state_dict_post_hook(_keep_trained)


def has_adapters(decoder: nn.Module) -> bool:
    """Whether a decoder has adapters."""
    return bool(_adapted(decoder))


@contextmanager
def switched_off(decoder: nn.Module) -> Iterator[None]:
    """Let a decoder run as without its adapters inside the ``with`` block."""
    layers = [layer for layer in _adapted(decoder).values() if not layer.disable_adapters]
    # Not by peft's `enable_adapters`: it also changes requires_grad, which DDP and FSDP2 read when they wrap a model.
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def merge(decoder: PreTrainedModel) -> None:
    """Add the adapters of a decoder to its weights and remove them. All weights stay frozen."""
    for name, layer in _adapted(decoder).items():
        layer.merge()
        decoder.set_submodule(name, layer.get_base_layer())
    del decoder.peft_config


def write_adapter(
    tensors: Mapping[str, Tensor],
    decoder: PreTrainedModel,
    settings: LoraSettings,
    folder: Path,
    *,
    body: str = "",
    original: str | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write adapters in peft's format: ``adapter_config.json`` and ``adapter_model.safetensors``.

    Args:
        tensors: The trained tensors, by their names in the decoder.
        decoder: The decoder, with or without adapters.
        settings: Size and places of the adapters.
        folder: Folder to write to.
        body: Name of the decoder in the model for which peft will open the adapters; empty if it is the decoder.
        original: Where the original weights are, for peft's own loaders.
        dtype: The dtype of the tensors; as they are by default.

    Raises:
        ValueError: If peft is not installed.
    """
    settings.check(decoder)
    config = _peft_config(decoder, settings)
    config.base_model_name_or_path, config.inference_mode = original, True
    config.save_pretrained(str(folder))
    inside = f"base_model.model.{body}." if body else "base_model.model."
    named = {inside + name.replace(f".{ADAPTER}.", "."): tensor for name, tensor in tensors.items()}
    write_safetensors(
        {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in named.items()},
        folder / "adapter_model.safetensors",
        {"format": "pt"},
    )


def _peft_config(decoder: PreTrainedModel, settings: LoraSettings) -> Any:
    from peft import LoraConfig

    projections = _projections(decoder)
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # peft computes alpha / rank
        target_modules=settings.targets or _kinds(projections),
        fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in projections.values()),
    )


def _projections(decoder: PreTrainedModel) -> dict[str, nn.Module]:
    """The linear layers of a decoder, by name."""
    # Inside an adapted layer, the projection is named `base_layer`, and A and B are linear layers too.
    found = {name: layer for name, layer in decoder.named_modules() if isinstance(layer, nn.Linear | Conv1D)}
    return {name.removesuffix(".base_layer"): layer for name, layer in found.items() if ".lora_" not in name}


def _kinds(projections: Mapping[str, nn.Module]) -> list[str]:
    """The distinct names that projections have in their layers."""
    return sorted({name.rpartition(".")[2] for name in projections})


def _adapted(model: nn.Module) -> dict[str, Any]:
    """The layers of a model that have adapters, by name."""
    # Only a model with adapters has needed peft, whose import takes seconds.
    if not any(hasattr(module, "peft_config") for module in model.modules()):
        return {}
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}


def _keep_trained(module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: dict[str, Any]) -> None:
    """State-dict hook that keeps only what is trained, while a module has adapters."""
    if _adapted(module):
        trained = {prefix + name for name, parameter in module.named_parameters() if parameter.requires_grad}
        for key in [key for key in state if key.startswith(prefix) and key not in trained]:
            del state[key]
