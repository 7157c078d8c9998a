"""The interface that an adapter for a text-to-speech model implements.

Shapes: B rows, P prefix columns, T speech columns, S = P + T, K codebooks, V rows of the speech vocabulary, D width.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from wand.attention import (
    AttentionContext,
    AttentionWindow,
    Windows,
    resolve_windows,
    use_wand_attention,
)
from wand.attention.body import dropout_settings
from wand.attention.interface import Attends
from wand.attention.window import WindowSetting
from wand.codecs.base import Codec
from wand.lora import has_adapters, switched_off
from wand.model.alignment import AlignmentHead
from wand.model.batch import ConditionedBatch, Conditioner
from wand.model.causal_lm import CausalLM
from wand.model.columns import ColumnLayout
from wand.model.heads import Head, HeadInput
from wand.model.sampling import Sampling
from wand.model.tokenizers import Files


class Backbone(nn.Module, ABC):
    """An autoregressive text-to-speech model: a transformers decoder over ``prefix | speech`` columns.

    A backbone is built with random weights, either by `from_architecture` or for the original weights at `pretrained`.
    `load_pretrained` reads those weights when a fit starts. ``__init__`` takes ``pretrained`` as a keyword, sets the
    attributes below and calls `finish_init` at its end.

    Attributes:
        frame_rate: Frames per second, in Hz.
        sample_rate: Sample rate of the speech, in Hz.
        num_codebooks: K.
        speech_vocab_size: V, rows of the speech vocabulary: speech, stop and control tokens.
        stop_ids: Rows of codebook 0 that end the speech.
        max_speech_tokens: Maximum number of speech columns, for models with learned positions; None is no limit.
        layout: How codes are arranged in columns.
        conditioner: Turns text and reference into tensors.
        sampling: The sampling settings recommended for the model.
        decoder: The transformers body, including its final norm.
        body: Name of the decoder in the original's transformers model, for peft's format; empty if it is that model.
        pretrained: Where `load_pretrained` reads the original weights; None if there are none.
        files: Small files of the original model that the conditioner needs, by name. Checkpoints contain them.
        stored_dtype: The dtype of the original weights; `save_pretrained` writes it by default.
        speech_tokenizer: Name of the speech tokenizer whose codes the model was trained with; None if only its codec is
            known. Codes that another one made are refused.
        codec: The codec that the user provides when the adapter has none (`own_codec`).
        cut_references: If True, preparation uses a part of a recording, from a random point on, as a reference without
            its transcript. If False, it uses whole recordings with their transcripts.
        hears_references, reads_references: Whether the conditioner needs audio, and codes, of a reference.
        alignment_heads: Attention heads that look at the text token that is spoken; empty if none is known.
        tokens_per_second: Approximate number of text tokens that one second of speech says.
        longest_prefix, longest_text: Columns of the longest prefix and text of the training; None if not known.
        language: Language that the front end reads, by its name in espeak-ng; None if the model reads plain text.
        silent_codes: Codes of silence in the first codebook. Default: none.
        longest_silence: Length to which a run of `silent_codes` is cut before the codec decodes it.
        licence: What the licence of the original weights requires; written to the card of an export.
    """

    frame_rate: float
    sample_rate: int
    num_codebooks: int
    speech_vocab_size: int
    stop_ids: tuple[int, ...]
    max_speech_tokens: int | None = None
    layout: ColumnLayout
    conditioner: Conditioner
    sampling: Sampling = Sampling()
    decoder: PreTrainedModel
    body: str = ""
    pretrained: str | None = None
    files: Files = {}  # noqa: RUF012 - replaced as a whole, never changed
    stored_dtype: torch.dtype = torch.float32
    speech_tokenizer: str | None = None
    codec: Codec | None = None
    cut_references: bool = False
    hears_references: bool = False
    reads_references: bool = True
    alignment_heads: tuple[AlignmentHead, ...] = ()
    tokens_per_second: float = 4.0
    longest_prefix: int | None = None
    longest_text: int | None = None
    language: str | None = None
    silent_codes: tuple[int, ...] = ()
    longest_silence: int = 5
    _blueprint: tuple[Backbone, ...] = ()  # in a tuple, because it is no submodule
    licence: str = "These weights are derived from the original weights, whose licence applies to them."

    # -- every adapter implements these --------------------------------------------------------------------------

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """Plain values from which `from_architecture` builds this model."""

    @abstractmethod
    def __init__(self, pretrained: str | None = None) -> None:
        super().__init__()

    @classmethod
    @abstractmethod
    def from_architecture(cls, architecture: dict[str, Any]) -> Self:
        """A model with random weights."""

    @abstractmethod
    def load_pretrained(self) -> None:
        """Read the original weights from `pretrained`.

        Raises:
            ValueError: If the weights are missing or do not fit the model.
        """

    @abstractmethod
    def pretrained_digest(self) -> str:
        """Digest of the file of the original weights. A run stores it; resuming the run checks it."""

    @abstractmethod
    def save_pretrained(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write the weights in the original format, so that a later run can use them as `pretrained`.

        Args:
            folder: Folder to write to; created if missing.
            dtype: The dtype of the weights; `stored_dtype` by default.
        """

    @abstractmethod
    def embed_prefix(self, batch: ConditionedBatch) -> Tensor:
        """Embed the conditioning as decoder inputs ``[B, P, D]``, left-padded."""

    @abstractmethod
    def embed_speech(self, columns: Tensor, offset: Tensor) -> Tensor:
        """Embed speech columns ``[B, T, K]`` as decoder inputs ``[B, T, D]``.

        Args:
            columns: Row indices of the speech vocabulary.
            offset: ``[B]`` index of the first column of each row, for learned positions.
        """

    @abstractmethod
    def speech_head(self) -> Head:
        """The head over the allowed rows. For most models it is a `LinearHead` made from the current weights."""

    # -- most adapters keep these --------------------------------------------------------------------------------

    def project(self, hidden: Tensor) -> Tensor:
        """Apply what the model has between decoder and head: ``[B, S, D]`` to ``[B, S, D]``. Default: nothing."""
        return hidden

    def position_ids(self, columns: Tensor, starts: Tensor) -> Tensor:
        """Position ids ``[B, n]`` of absolute columns ``[n]`` or ``[B, n]``, in rows that start at `starts` ``[B]``."""
        return (columns - starts[:, None]).clamp_(min=0)

    def own_codec(self) -> Codec | None:
        """The codec of this model, if the adapter can open it; else None."""
        return None

    def causal_lm(self) -> CausalLM | None:
        """The model as a causal language model over ids, for serving engines. Default: None, it is no such model."""
        return None

    def use_files(self, files: Files) -> None:
        """Set `files` on a model rebuilt from a checkpoint, before the conditioner is used."""
        if files:
            raise ValueError(f"{type(self).__name__} uses no files, but was given {', '.join(files)}")

    def speech_bounds(self, batch: ConditionedBatch) -> tuple[Tensor, Tensor] | None:
        """Minimum and maximum number of speech columns ``[B]`` of each row; None if the model has no such rule.

        Before the minimum, the stop token of the layout is not drawn. Other stop tokens are not affected.
        """
        return None

    def speech_latents(self, batch: ConditionedBatch, window: Windows) -> Tensor:
        """Hidden states ``[B, T, D]`` of the speech, for codecs that need them (`Codec.needs_latents`).

        Args:
            batch: Conditioning and spoken codes.
            window: The window of this pass.
        """
        raise ValueError(f"{type(self).__name__} has no latents: use a codec that decodes codes")

    def forbidden_tokens(self) -> Tensor | None:
        """Bool ``[K, V]``: rows that are never spoken; None if all may be."""
        return None

    def without_adapters(self) -> AbstractContextManager[None]:
        """Switch off additions to the original weights inside the ``with`` block. Default: LoRA in the decoder.

        Raises:
            ValueError: If the model has none.
        """
        if not has_adapters(self.decoder):
            raise ValueError(
                f"{type(self).__name__} has no adapters to switch off, so teacher and student would be the same: set "
                f"model.lora, or set model.teacher to `copy`"
            )
        return switched_off(self.decoder)

    # -- all adapters share these --------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.decoder.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the decoder's weights."""
        return next(self.decoder.parameters()).dtype

    @property
    def columns_per_second(self) -> float:
        """Speech columns per second."""
        return self.frame_rate * self.layout.columns_per_frame

    def finish_init(self) -> None:
        """Switch the decoder to windowed attention, and check its positions and that dropout is off.

        Raises:
            ValueError: If windowed attention cannot replace the attention of the decoder, or the decoder numbers its
                positions itself or uses dropout.
        """
        shape, takes_positions = use_wand_attention(self.decoder)
        if shape is None:
            raise ValueError(f"{type(self.decoder).__name__} needs a cache of its own kind: a window has none")
        self.key_value_shape = shape
        if not takes_positions:
            raise ValueError(
                f"{type(self.decoder).__name__} numbers its positions itself, and left padding would move them: use a "
                f"body that takes position_ids"
            )
        for name, value in dropout_settings(self.decoder.config).items():
            if value > 0:
                raise ValueError(
                    f"{type(self).__name__}: decoder setting {name} = {value}, but student and teacher run without "
                    f"dropout: set it to 0"
                )

    def forward(self, batch: ConditionedBatch, window: Windows) -> Tensor:
        """Logits of every step under a window: ``[B, T + 1, K, V]``, aligned with ``batch.labels``."""
        return self.head_input(batch, window).logits(batch.labels)

    def head_input(self, batch: ConditionedBatch, window: Windows) -> HeadInput:
        """The head and its input ``[B, T + 1, D]``, for losses that do not keep the logits of a whole batch."""
        context = AttentionContext(window, batch.prefix_length, batch.padded_starts)
        hidden = self.hidden_states(batch, context)[:, batch.prefix_length - 1 :]
        return HeadInput(self.project(hidden), self.speech_head())

    def hidden_states(self, batch: ConditionedBatch, context: Attends) -> Tensor:
        """Decoder outputs of all columns: ``[B, S, D]``.

        Args:
            batch: Conditioning and speech columns.
            context: Computes the attention of every layer: an `AttentionContext`, or an object that also records it.
        """
        embeds, columns = self.embed(batch)
        output = self.decoder(
            inputs_embeds=embeds,
            position_ids=self.position_ids(columns, batch.starts),
            use_cache=False,
            attention_context=context,
        )
        return output.last_hidden_state

    def embed(self, batch: ConditionedBatch) -> tuple[Tensor, Tensor]:
        """Decoder inputs ``[B, S, D]``, and the absolute column of each, ``[S]`` or ``[B, S]``."""
        embeds = torch.cat([self.embed_prefix(batch), self.embed_speech(batch.columns, batch.first_columns)], dim=1)
        columns = torch.arange(embeds.shape[1], device=embeds.device)
        if batch.offsets is not None:
            columns = columns + (columns >= batch.prefix_length) * batch.offsets[:, None]
        return embeds, columns

    def sharded_units(self) -> list[nn.Module]:
        """Modules whose parameters are gathered together under FSDP2, inner ones first. Default: the decoder layers."""
        return [layer for layer in self.decoder.modules() if isinstance(layer, GradientCheckpointingLayer)]

    def parallelize(self, mesh: DeviceMesh, dtype: torch.dtype | None = None) -> None:
        """Shard parameters, gradients and optimizer states over the ranks of a mesh (FSDP2).

        The parameters of a unit (see `sharded_units`) are gathered when it runs. All other parameters stay gathered
        from the first forward pass of a step to its backward pass. From outside, call only `forward` and `head_input`,
        which gather the parameters; for everything else see `gathered`.

        Args:
            mesh: A one-dimensional mesh.
            dtype: The dtype in which the units are gathered and computed under autocast; that of the parameters by
                default. Gradients are always reduced in the dtype of the parameters.
        """
        self._blueprint = (_without_weights(self),)
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=self.dtype, cast_forward_inputs=False)
        for unit in self.sharded_units():
            fully_shard(unit, mesh=mesh, mp_policy=policy)
        fully_shard(self, mesh=mesh)
        register_fsdp_forward_method(self, "head_input")

    @property
    def blueprint(self) -> Backbone:
        """This model without shards and without weights (on the meta device), for its shapes."""
        return self._blueprint[0] if self.is_sharded else _without_weights(self)

    @property
    def is_sharded(self) -> bool:
        """Whether `parallelize` has sharded the parameters."""
        return isinstance(self, FSDPModule)

    @contextmanager
    def gathered(self) -> Iterator[Backbone]:
        """Give a model that this process can use alone: this one, or a copy with all parameters if they are sharded.

        All ranks enter the ``with`` block together. At its end the memory of the copy is freed.
        """
        if not self.is_sharded:
            yield self
            return
        whole = copy.deepcopy(self.blueprint)
        parts = self.state_dict().items()
        state = {name: part.full_tensor() if isinstance(part, DTensor) else part for name, part in parts}
        whole.load_state_dict(state, assign=True)
        del state
        try:
            yield whole.to(self.device).requires_grad_(False).train(self.training)
        finally:
            whole.to("meta")

    def logits(self, hidden: Tensor, columns: Tensor | None = None) -> Tensor:
        """Logits ``[B, n, K, V]`` from decoder outputs ``[B, n, D]``; for `columns` see `Head.logits`."""
        return self.speech_head().logits(self.project(hidden), columns)

    def find_codec(self) -> Codec | None:
        """The codec of this model: the user's, else the adapter's, else None."""
        return self.codec or self.own_codec()

    def load_codec(self) -> Codec:
        """The codec of this model.

        Raises:
            ValueError: If there is none.
        """
        found = self.find_codec()
        if found is None:
            raise ValueError(
                f"{type(self).__name__} has no codec: set data.codec to one, such as wand.codecs.worker.WorkerCodec "
                f"(it runs the codec of the upstream project), or use ready-made codes"
            )
        return found

    def windows(self, setting: WindowSetting) -> Windows:
        """The windows of this model's layers, rounded to whole frames; see `wand.attention.resolve_windows`.

        Raises:
            ValueError: If the setting does not fit the layers, or a window does not exceed the delay of the codebooks.
        """
        windows = resolve_windows(setting, self.decoder.config.num_hidden_layers)
        if windows.smallest is not None and windows.smallest <= self.layout.flush_columns:
            raise ValueError(
                f"window {windows.plain} must exceed the delay of {self.layout.flush_columns} columns: "
                f"otherwise no step sees a whole frame"
            )
        return windows.map(
            lambda one: one if one.size is None else AttentionWindow(self.layout.whole_frames(one.size), one.tau)
        )

    def spec(self) -> dict[str, Any]:
        """Class path, architecture and facts about the weights as plain values, for `build_backbone`."""
        own = next(kind for kind in type(self).__mro__ if not issubclass(kind, FSDPModule))
        return {
            "class_path": f"{own.__module__}.{own.__qualname__}",
            "architecture": self.architecture(),
            "alignment_heads": [[*head] for head in self.alignment_heads],
            "longest_prefix": self.longest_prefix,
            "longest_text": self.longest_text,
        }


def _without_weights(backbone: Backbone) -> Backbone:
    """A copy whose parameters are on the meta device."""
    empty = ((id(p), nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad)) for p in backbone.parameters())
    return copy.deepcopy(backbone, dict(empty))
