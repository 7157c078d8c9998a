"""A callback that trains some attention heads to attend to the phone that comes next in the text."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.hooks import RemovableHandle
from transformers.models.llama.modeling_llama import LlamaAttention, apply_rotary_pos_emb

from wand.attention import AttentionContext
from wand.backbones.encodec_lm import EncodecLM, SymbolConditioner
from wand.data.datamodule import SpeechDataModule
from wand.data.sources.source import SpeechSource, Utterance
from wand.model.batch import ConditionedBatch
from wand.training.module import WandModule


@runtime_checkable
class PhoneTimedSource(SpeechSource, Protocol):
    """A corpus that knows when each phone is spoken."""

    def phone_times(self, utterance: Utterance) -> list[tuple[str, float]]:
        """The phones of one utterance in espeak-ng's notation, and their start times in seconds."""
        ...


def symbol_starts(symbols: str, phones: list[tuple[str, float]], seconds: float) -> NDArray[np.float64]:
    """When each symbol begins to be spoken, in seconds.

    The phones of a voice differ from the symbols of the model: the voice has a dialect, and spaces and punctuation have
    no sound. Equal symbols are matched; the symbols between two matches are spread evenly.

    Args:
        symbols: The symbols that the model reads.
        phones: The phones of the voice, with their start times in seconds.
        seconds: Length of the recording.
    """
    ends = [begin for _, begin in phones[1:]] + [seconds]
    spoken = "".join(phone for phone, _ in phones)
    times = [
        begin + (end - begin) * i / len(phone)
        for (phone, begin), end in zip(phones, ends, strict=True)
        for i in range(len(phone))
    ]
    blocks = SequenceMatcher(None, symbols, spoken, autojunk=False).get_matching_blocks()
    pairs = [(block.a + i, times[block.b + i]) for block in blocks for i in range(block.size)]
    places, begins = zip((-1, 0.0), *pairs, (len(symbols), seconds), strict=True)
    return np.interp(np.arange(len(symbols)), places, begins)


def symbols_at(symbols: str, phones: list[tuple[str, float]], frames: int, frame_rate: float) -> Tensor:
    """The index of the symbol that is spoken in every frame: ``[frames]``; see `symbol_starts`."""
    starts = symbol_starts(symbols, phones, frames / frame_rate)
    middle = (np.arange(frames) + 0.5) / frame_rate
    return torch.from_numpy(np.searchsorted(starts, middle, side="right") - 1).clamp(min=0)


class AddLoss(torch.autograd.Function):
    """Returns a tensor unchanged and adds a second loss to the backward pass."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, loss: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The tensor's gradient, and 1 for the loss."""
        return gradient, gradient.new_ones(())


class Alignment(Callback):
    """Trains one attention head per layer to attend to the symbol that the next column speaks.

    It is the first head of every layer except the first and the last layer. A model learns its position in the text
    last, and it cannot speak before that. The trained model is an ordinary one: the callback is not used when it
    speaks. A layer can correct the layer before it, because it sees where that layer has attended.

    Args:
        weight: Weight of the loss, which is in nats per column and layer.
    """

    def __init__(self, weight: float = 0.15) -> None:
        self.weight = weight
        self._source: PhoneTimedSource | None = None
        self._utterances: dict[str, Utterance] = {}
        self._known: dict[str, Tensor] = {}
        self._keys = torch.empty(0)
        self._losses: list[Tensor] = []
        self._hooks: list[RemovableHandle] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the hooks to the layers."""
        data = getattr(trainer, "datamodule", None)
        assert isinstance(data, SpeechDataModule)
        if not isinstance(data.source, PhoneTimedSource):
            raise ValueError(
                f"{type(data.source).__name__} does not know the times of phones: use a data.source with "
                f"`phone_times`, or remove the callback Alignment"
            )
        self._source = data.source
        self._utterances = {utterance.id: utterance for utterance in data.source.utterances("train")}
        model = self._model(pl_module)
        for layer in range(1, model.shape.num_layers - 1):
            attention = model.decoder.get_submodule(f"layers.{layer}.self_attn")
            self._hooks.append(attention.register_forward_hook(self._add, with_kwargs=True))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the hooks."""
        while self._hooks:
            self._hooks.pop().remove()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: ConditionedBatch, batch_idx: int
    ) -> None:
        """Find the key column that every column should attend to."""
        model = self._model(pl_module)
        keys = torch.full(batch.columns.shape[:2], -1)
        conditioning = {name: tensor.cpu() for name, tensor in batch.conditioning.items()}
        for row, (name, length) in enumerate(zip(batch.ids, batch.lengths.tolist(), strict=True)):
            text = conditioning["ids"][row, conditioning["is_text"][row], 0].tolist()[:-1]
            if name not in self._known:
                self._known[name] = self._symbols_at(model, name, text, model.layout.frames_of(length))
            spoken = self._known[name]
            keys[row, : len(spoken)] = batch.prefix_length - 1 - len(text) + spoken
        self._keys = keys.to(batch.columns.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: ConditionedBatch, batch_idx: int
    ) -> None:
        """Log the mean loss over layers."""
        pl_module.log("train/alignment", torch.stack(self._losses).mean(), sync_dist=True)
        self._losses.clear()

    @staticmethod
    def _model(module: LightningModule) -> EncodecLM:
        assert isinstance(module, WandModule)
        assert isinstance(module.backbone, EncodecLM)
        return module.backbone

    def _symbols_at(self, model: EncodecLM, name: str, text: list[int], frames: int) -> Tensor:
        front_end = model.conditioner
        assert isinstance(front_end, SymbolConditioner)
        assert self._source is not None
        phones = self._source.phone_times(self._utterances[name])
        return symbols_at("".join(front_end.symbols[i] for i in text), phones, frames, model.frame_rate)

    def _add(
        self, attention: LlamaAttention, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Tensor, Any]
    ) -> tuple[Tensor, Any]:
        if not attention.training:
            return output
        scores = first_head(attention, kwargs["hidden_states"], kwargs["position_embeddings"])
        context = kwargs["attention_context"]
        assert isinstance(context, AttentionContext)
        scores = scores.masked_fill(~context.visible(scores.shape[1], scores.device), float("-inf"))
        # The query of column P - 1 + i predicts speech column i; the last one predicts the stop.
        choosing = scores[:, context.boundary - 1 : -1]
        loss = functional.cross_entropy(choosing.flatten(0, 1), self._keys.flatten(), ignore_index=-1)
        self._losses.append(loss.detach())
        return AddLoss.apply(output[0], self.weight * loss), output[1]


def first_head(attention: LlamaAttention, hidden: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Attention logits ``[B, S, S]`` of a layer's first head, before any mask."""
    width = attention.head_dim
    query = functional.linear(hidden, attention.q_proj.weight[:width])[:, None]
    key = functional.linear(hidden, attention.k_proj.weight[:width])[:, None]
    query, key = apply_rotary_pos_emb(query, key, *rotation)
    return (query @ key.transpose(-1, -2))[:, 0] * attention.scaling
