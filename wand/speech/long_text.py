"""How a text is spoken: whole, as a passage, or in parts."""

from __future__ import annotations

from typing import Literal, get_args

from wand.attention import Windows
from wand.codecs import Codec
from wand.codecs.reference import Reference
from wand.model.backbone import Backbone
from wand.model.text_tokens import longest_text
from wand.passages.rules import check_passages, reason_against_passages
from wand.text.sentences import split_sentences

LongText = Literal["auto", "passage", "split", "whole"]
LONG_TEXTS: tuple[LongText, ...] = get_args(LongText)


def parts_of_text(
    text: str, how: LongText, backbone: Backbone, codec: Codec | None, window: Windows, reference: Reference
) -> tuple[list[str], bool]:
    """The parts in which a text is spoken, and whether they are passages.

    Args:
        text: The text.
        how: ``passage``: in one continuous decode, whose text windows move with the speech. ``split``: sentence by
            sentence. ``whole``: in one decode with the whole text in the prefix. ``auto``: as a passage if the model
            can speak passages; else split if the text is longer than those of the training, else whole.
        backbone: The model.
        codec: Its codec.
        window: Its window.
        reference: The voice.

    Raises:
        ValueError: If the model cannot speak passages, but is told to.
    """
    if how == "passage":
        check_passages(backbone, window, codec)
    if how == "passage" or (how == "auto" and reason_against_passages(backbone, window, codec) is None):
        return [text], True
    if how == "auto":
        how = whole_or_split(text, backbone, reference)
    return ([text] if how == "whole" else split_sentences(text)), False


def whole_or_split(text: str, backbone: Backbone, reference: Reference) -> LongText:
    """``split`` if a text or its prefix is longer than in the training and that is known, else ``whole``.

    Args:
        text: The text, which is not spoken as a passage.
        backbone: The model.
        reference: The voice.
    """
    if backbone.longest_prefix is None:
        return "whole"
    conditioner = backbone.conditioner
    conditioning = conditioner(text, reference)
    if conditioner.length(conditioning) > backbone.longest_prefix:
        return "split"
    # A prefix may be short although its text is long: without the transcript of a voice, some have no codes of it.
    known, own = backbone.longest_text, longest_text(conditioner, [conditioning])
    return "split" if known is not None and own is not None and own > known else "whole"
