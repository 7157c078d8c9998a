"""When each word of a finished speech is spoken."""

from __future__ import annotations

import torch
from torch import Tensor

from wand.alignment.reading import read_speech
from wand.attention import Windows
from wand.codecs.reference import Reference
from wand.model.alignment import AlignmentHead
from wand.model.backbone import Backbone
from wand.passages.follower import Follower, SpokenWord, TextWindow
from wand.passages.passage import Passage
from wand.passages.rules import PassageRules


def word_times(
    backbone: Backbone, window: Windows, text: str, reference: Reference, codes: Tensor
) -> tuple[SpokenWord, ...]:
    """Find the words of a speech that is given, such as a recording. The model reads it, and does not speak.

    The rule is that of passages, with the whole text in one text window, so the speech should not be longer than the
    utterances that the model was trained with.

    Args:
        backbone: The model, in eval mode.
        window: Its window.
        text: What is said.
        reference: The voice, or any other one.
        codes: The speech, ``[K, F]``.

    Returns:
        The words that were reached, with their speech columns.

    Raises:
        ValueError: If no alignment heads of the model are known, it has no window, or its adapter cannot cut texts.
    """
    if not backbone.alignment_heads:
        raise ValueError(
            f"no alignment heads of this {type(backbone).__name__} are known, so the times of words are not: look "
            f"for them with `wand align --ckpt_path RUN`"
        )
    passage = Passage(backbone.conditioner, reference, text)
    follower = Follower(passage, PassageRules.of(backbone, window))
    follower.move(TextWindow(0, passage.end))
    seen: list[Tensor] = []

    def add(head: AlignmentHead, shares: Tensor) -> None:
        seen.append(shares / shares.sum(-1, keepdim=True))

    conditioning = passage.conditioning(0, passage.end)
    read_speech(backbone, window, conditioning, codes, add, backbone.alignment_heads)
    looks = torch.stack(seen).sum(0).argmax(-1).tolist()
    for column, token in enumerate(looks):
        follower.see(column, token)
    follower.finish(codes.shape[1] * backbone.layout.columns_per_frame)
    return tuple(follower.words)
