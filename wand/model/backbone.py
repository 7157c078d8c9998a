"""What an adapter of one text-to-speech model promises.

Shapes: B rows, P prefix columns, T speech columns, S = P + T, K codebooks, V rows of the speech vocabulary, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from wand.attention import (
    AttentionContext,
    AttentionWindow,
    WindowPolicy,
    Windows,
    resolve_windows,
    use_wand_attention,
)
from wand.attention.interface import Attends
from wand.codecs.base import Codec
from wand.model.batch import ConditionedBatch, Conditioner
from wand.model.columns import ColumnLayout
from wand.model.heads import Head, HeadInput
from wand.model.sampling import Sampling
from wand.model.tokenizers import Files

# Settings of transformers configs that would make student and teacher differ by chance.
DROPOUT_SETTINGS = ("attention_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "hidden_dropout")


class Backbone(nn.Module, ABC):
    """One autoregressive text-to-speech model, seen as ``prefix | speech`` columns through a stock decoder.

    Built with random weights, from plain values (`architecture`) or for the original weights at `pretrained`; those
    are read by `load_pretrained`, when a fit starts. ``__init__`` takes ``pretrained`` as a keyword,
    sets the attributes below and calls `finish_init` at its end.

    Attributes:
        frame_rate: Frames a second, in Hz.
        sample_rate: Of the speech, in Hz.
        num_codebooks: K.
        speech_vocab_size: V, speech and stop / control rows together.
        stop_ids: Rows of codebook 0 that end the speech.
        max_speech_tokens: Columns at most, where positions are learned; None has no bound.
        layout: How codes become columns.
        conditioner: How text and reference become tensors.
        sampling: How the model is meant to be sampled.
        decoder: The transformers body, its final norm included.
        pretrained: Where `load_pretrained` reads the original weights; None has none.
        files: Small files of the original that the conditioner needs, by name: they travel in checkpoints.
        stored_dtype: Of the weights that `save_pretrained` writes: that of the original's.
        codec: What the user gives where the adapter brings none of its own (`own_codec`).
        cut_references: Whether preparation makes references of parts of recordings, from a point on that is drawn,
            without their words; whole recordings with their words otherwise.
        hears_references: Whether the conditioner needs a reference's sound.
        reads_references: Whether the conditioner needs a reference's codes.
        licence: What the licence of the original weights asks for, for the card of an export.
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
    pretrained: str | None = None
    files: Files = {}  # noqa: RUF012 - replaced as a whole, never changed
    stored_dtype: torch.dtype = torch.float32
    codec: Codec | None = None
    cut_references: bool = False
    hears_references: bool = False
    reads_references: bool = True
    licence: str = "The licence of the original weights applies to these, which are derived from them."

    # -- what every adapter defines ------------------------------------------------------------------------------

    @abstractmethod
    def architecture(self) -> dict[str, Any]:
        """Plain values from which `from_architecture` builds this model with random weights."""

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
            ValueError: If they are missing or do not fit.
        """

    @abstractmethod
    def pretrained_digest(self) -> str:
        """Digest of the original weights' file, stored with a run and checked when it is resumed."""

    @abstractmethod
    def save_pretrained(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write the original format: `pretrained` of a later run.

        Args:
            folder: Where to; made if it is not there.
            dtype: Of the weights; `stored_dtype` by default.
        """

    @abstractmethod
    def embed_prefix(self, batch: ConditionedBatch) -> Tensor:
        """The conditioning as decoder inputs, left-padded: ``[B, P, D]``."""

    @abstractmethod
    def embed_speech(self, columns: Tensor, offset: Tensor) -> Tensor:
        """Speech columns ``[B, T, K]`` as decoder inputs ``[B, T, D]``.

        Args:
            columns: Row indices of the speech vocabulary.
            offset: ``[B]`` index of each row's first column, for positions that are learned.
        """

    @abstractmethod
    def speech_head(self) -> Head:
        """The head over the allowed rows: for most models a `LinearHead` of the weights as they are now."""

    # -- what most adapters leave as it is -----------------------------------------------------------------------

    def project(self, hidden: Tensor) -> Tensor:
        """What stands between decoder and head: ``[B, S, D]`` to ``[B, S, D]``."""
        return hidden

    def position_ids(self, columns: Tensor, starts: Tensor) -> Tensor:
        """Positions ``[B, n]`` of absolute columns ``[n]`` or ``[B, n]`` in rows that start at `starts` ``[B]``."""
        return (columns - starts[:, None]).clamp_(min=0)

    def own_codec(self) -> Codec | None:
        """The codec whose codes this model speaks, where the adapter can open it."""
        return None

    def note_window(self, folder: Path, window: int) -> None:
        """Write the window into a saved model, where other programs look for it."""
        return

    def use_files(self, files: Files) -> None:
        """Take the `files` of a model that was rebuilt from a checkpoint, before anything is conditioned."""
        if files:
            raise ValueError(f"{type(self).__name__} has no use for the files {', '.join(files)}")

    def speech_bounds(self, batch: ConditionedBatch) -> tuple[Tensor, Tensor] | None:
        """Least and most speech columns ``[B]`` of each row, where the model has rules for that.

        The layout's stop token (no other) is not drawn before the least.
        """
        return None

    def speech_latents(self, batch: ConditionedBatch, window: Windows) -> Tensor:
        """The model's own states ``[B, T, D]`` of what was spoken, for codecs that need them (`Codec.needs_latents`).

        Args:
            batch: Conditioning and spoken codes.
            window: What this pass sees.
        """
        raise ValueError(f"{type(self).__name__} gives no latents: its codec must make sound of codes")

    def forbidden_tokens(self) -> Tensor | None:
        """Bool ``[K, V]``: rows that are never spoken, or None."""
        return None

    def without_adapters(self) -> AbstractContextManager[None]:
        """Switch off what was added to the original weights (such as LoRA) inside the ``with`` block.

        Raises:
            ValueError: If nothing was added. That is the default.
        """
        raise ValueError(f"{type(self).__name__} has no adapters to switch off: set model.teacher to `copy`")

    # -- what adapters share -------------------------------------------------------------------------------------

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
        """Speech columns of a second of speech."""
        return self.frame_rate * self.layout.columns_per_frame

    def finish_init(self) -> None:
        """Switch the decoder to windowed attention and refuse what cannot be distilled."""
        use_wand_attention(self.decoder)
        for name, value in self.decoder.config.to_dict().items():
            if name in DROPOUT_SETTINGS and value:
                raise ValueError(
                    f"{type(self).__name__}: decoder setting {name} = {value}, but student and teacher run without "
                    f"dropout: set it to 0"
                )

    def forward(self, batch: ConditionedBatch, window: Windows) -> Tensor:
        """Logits of every step under a window: ``[B, T + 1, K, V]``, to be held against ``batch.labels``."""
        return self.head_input(batch, window).logits(batch.labels)

    def head_input(self, batch: ConditionedBatch, window: Windows) -> HeadInput:
        """The head and its input, ``[B, T + 1, D]``, for losses that never hold the logits of a whole batch."""
        context = AttentionContext(window, batch.prefix_length, batch.padded_starts)
        hidden = self.hidden_states(batch, context)[:, batch.prefix_length - 1 :]
        return HeadInput(self.project(hidden), self.speech_head())

    def hidden_states(self, batch: ConditionedBatch, context: Attends) -> Tensor:
        """Decoder outputs of all columns: ``[B, S, D]``.

        Args:
            batch: Conditioning and speech columns.
            context: Computes the attention of every layer: an `AttentionContext`, or another that also records it.
        """
        starts = batch.starts
        speech = self.embed_speech(batch.columns, torch.zeros_like(starts))
        embeds = torch.cat([self.embed_prefix(batch), speech], dim=1)
        columns = torch.arange(embeds.shape[1], device=embeds.device)
        output = self.decoder(
            inputs_embeds=embeds,
            position_ids=self.position_ids(columns, starts),
            use_cache=False,
            attention_context=context,
        )
        return output.last_hidden_state

    def parallelize(self, mesh: DeviceMesh) -> None:
        """Shard parameters, gradients and optimizer states over the ranks of a mesh (FSDP2).

        Every decoder layer is a unit that is gathered when it runs; all other parameters stay gathered from the first
        forward pass of a step to its backward pass. `head_input` may be called from outside; other methods only as
        part of it or of `forward`.

        Args:
            mesh: One-dimensional.
        """
        for layer in self.decoder.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                fully_shard(layer, mesh=mesh)
        fully_shard(self, mesh=mesh)
        register_fsdp_forward_method(self, "head_input")

    def logits(self, hidden: Tensor, columns: Tensor | None = None) -> Tensor:
        """Decoder outputs ``[B, n, D]`` to logits ``[B, n, K, V]``; `columns` as in `Head.logits`."""
        return self.speech_head().logits(self.project(hidden), columns)

    def find_codec(self) -> Codec | None:
        """The codec whose codes this model speaks, if it is at hand."""
        return self.codec or self.own_codec()

    def load_codec(self) -> Codec:
        """The codec whose codes this model speaks.

        Raises:
            ValueError: If there is none at hand.
        """
        found = self.find_codec()
        if found is None:
            raise ValueError(
                f"the codec of {type(self).__name__} is not at hand: set data.codec to a codec, such as a "
                f"wand.codecs.worker.WorkerCodec that runs upstream's own, or use ready-made codes"
            )
        return found

    def windows(self, setting: int | Sequence[int] | WindowPolicy | None) -> Windows:
        """The windows of this model's layers, each of whole frames; see `wand.attention.resolve_windows`.

        Raises:
            ValueError: If the setting does not fit, or a window does not exceed the delay of the codebooks.
        """
        windows = resolve_windows(setting, self.decoder.config.num_hidden_layers)
        if windows.smallest is not None and windows.smallest <= self.layout.flush_columns:
            raise ValueError(
                f"window {windows.plain} must exceed the delay of {self.layout.flush_columns} columns: "
                f"no step would see a whole frame"
            )
        return windows.map(
            lambda one: one if one.size is None else AttentionWindow(self.layout.whole_frames(one.size), one.tau)
        )

    def spec(self) -> dict[str, Any]:
        """Class path and architecture in plain values; `build` makes the model of it."""
        return {
            "class_path": f"{type(self).__module__}.{type(self).__qualname__}",
            "architecture": self.architecture(),
        }
