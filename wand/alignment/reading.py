"""Reads, in one pass over a finished speech, what attention heads see of its text.

Shapes: T speech columns, N text tokens, S all columns, H query heads, G key/value heads, d width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from wand.attention import AttentionContext, Windows
from wand.model.alignment import AlignmentHead
from wand.model.backbone import Backbone
from wand.model.batch import Conditioning, make_batch
from wand.model.text_tokens import PassageConditioner

Note = Callable[[AlignmentHead, Tensor], None]
"""Takes a head, and for each speech column the shares ``[T, N]`` of its attention that are on the text tokens."""


def check_readable(backbone: Backbone) -> PassageConditioner:
    """The conditioner of a model, which knows where the text is in its prefix.

    Raises:
        ValueError: If it does not.
    """
    conditioner = backbone.conditioner
    if not isinstance(conditioner, PassageConditioner):
        raise ValueError(
            f"{type(conditioner).__name__} does not say which columns of the prefix are the text, so the alignment of "
            f"{type(backbone).__name__} cannot be read"
        )
    return conditioner


@torch.inference_mode()
def read_speech(
    backbone: Backbone,
    window: Windows,
    conditioning: Conditioning,
    codes: Tensor,
    note: Note,
    heads: Iterable[AlignmentHead] | None = None,
) -> None:
    """Run a model over a speech that is given, and show what its heads see of the text, one head after the other.

    Row i of the shares belongs to the query that predicts speech column i.

    Args:
        backbone: The model, in eval mode.
        window: Its window.
        conditioning: Text and voice of the speech.
        codes: Its codes ``[K, F]``.
        note: Is called for each head.
        heads: The heads to read; all by default.

    Raises:
        ValueError: If the adapter does not know where the text is in its prefix.
    """
    conditioner = check_readable(backbone)
    batch = make_batch(conditioner, backbone.layout, [conditioning], [codes]).to(backbone.device)
    own = AttentionContext(window, batch.prefix_length)
    wanted = None if heads is None else set(heads)
    backbone.hidden_states(batch, _Reader(own, conditioner.text_span(conditioning), note, wanted))


class _Reader:
    """Attends as another context does, and shows the shares of the text."""

    def __init__(
        self, context: AttentionContext, span: tuple[int, int], note: Note, wanted: set[AlignmentHead] | None
    ) -> None:
        self.context = context
        self.span = span
        self.note = note
        self.wanted = wanted

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None = None) -> Tensor:
        """``[1, H, S, d]`` over ``[1, G, S, d]`` to ``[1, S, H, d]``."""
        shared, scale = query.shape[1] // key.shape[1], query.shape[-1] ** -0.5 if scaling is None else scaling
        first = self.context.boundary - 1
        unseen = ~self.context.visible(query.shape[2], query.device, layer)[0, first:-1]
        # One head at a time: the shares of all would need the memory of full attention.
        for head in (AlignmentHead(layer, number) for number in range(query.shape[1])):
            if self.wanted is None or head in self.wanted:
                logits = query[0, head.head, first:-1].float() @ key[0, head.head // shared].float().T
                shares = (logits * scale).masked_fill_(unseen, float("-inf")).softmax(-1)
                self.note(head, shares[:, slice(*self.span)])
        return self.context.attend(layer, query, key, value, scaling)
