"""The first real column of each row, from an attention mask or from padding tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import GenerationConfig


def starts_of_texts(mask: Tensor, columns: Tensor, boundary: int, starts: Tensor | None = None) -> Tensor | None:
    """First real columns ``[B]`` of rows ``prefix | speech``; None when no row is padded on the left.

    Args:
        mask: ``[B, S]``, 1 at real columns. Columns after the text of a row may be 0: a causal model never sees them.
        columns: The texts, ``[B, S]`` or ``[B, S, D]``.
        boundary: P, the column where speech starts.
        starts: ``[B]``, if they are given as well.

    Raises:
        ValueError: If the mask has another shape or holes, a row is empty, the padding reaches into the speech, or the
            mask and `starts` differ.
    """
    begins, _ = _ends(mask, columns)
    if (late := begins > boundary).any():
        row = int(late.nonzero()[0])
        raise ValueError(
            f"row {row} of attention_mask starts at column {int(begins[row])}, after the boundary {boundary}: pad "
            f"prefixes on the left, up to the boundary"
        )
    if starts is not None and not torch.equal(starts.to(begins), begins):
        raise ValueError(f"starts {starts.tolist()} and attention_mask {begins.tolist()} differ: give one of them")
    return begins if bool(begins.any()) else None


def check_starts(starts: Tensor | None, boundary: int, columns: Tensor) -> None:
    """Check the first real columns ``[B]`` of rows ``prefix | speech``, and where speech starts.

    Raises:
        ValueError: Unless ``0 <= starts <= boundary <= S``, with columns ``[B, S]`` or ``[B, S, D]``.
    """
    if not 0 <= boundary <= columns.shape[1]:
        raise ValueError(f"boundary {boundary} is outside the {columns.shape[1]} columns: give where speech starts")
    if starts is not None and bool(((starts < 0) | (starts > boundary)).any()):
        raise ValueError(f"starts {starts.tolist()} are not all between 0 and the boundary {boundary}")


def starts_of_prompts(mask: Tensor | None, prompts: Tensor, settings: GenerationConfig) -> Tensor:
    """First real columns ``[B]`` of left-padded prompts.

    Args:
        mask: ``[B, P]``, 1 at real columns; None where there is none.
        prompts: Ids ``[B, P]`` or embeddings ``[B, P, D]``.
        settings: Names the padding token and the tokens that it may be confused with.

    Raises:
        ValueError: If the mask is not that of left-padded prompts, or there is no mask and prompts may be padded with a
            token that has another meaning.
    """
    if mask is not None:
        begins, ends = _ends(mask, prompts)
        if (ends < prompts.shape[1]).any():
            raise ValueError("attention_mask pads prompts on the right: pad on the left, speech continues the prompt")
        return begins
    if prompts.is_floating_point():
        return torch.zeros(len(prompts), dtype=torch.long)
    return _guessed(prompts, settings)


def _guessed(prompts: Tensor, settings: GenerationConfig) -> Tensor:
    pad = settings.pad_token_id
    meant = {*_ids(settings.bos_token_id), *_ids(settings.eos_token_id)}
    if pad is not None and pad not in meant:
        real = prompts != pad
        if not real.any(1).all() or not real[:, -1].all():
            raise ValueError(
                f"a prompt ends with the padding token {pad}: pad prompts on the left, or give attention_mask"
            )
        return real.int().argmax(1)
    # Padding and text cannot be told apart, so refuse what may be padded.
    first = prompts[:, 0]
    runs = ((prompts == first[:, None]).cumprod(1).sum(1) > 1) & (prompts.shape[1] > 1)
    fillers = {0, *_ids(settings.eos_token_id)} if pad is None else {pad}
    filled = torch.isin(first, torch.tensor(sorted(fillers), device=first.device))
    # All rows begin with one such token: the beginning of a text, which GPT-2 and others mark with their last token.
    same = bool((first == first[0]).all()) and not bool(runs.any())
    may_be = (runs & (filled if pad is not None or len(prompts) == 1 else True)) | (filled & (len(prompts) > 1))
    if bool(may_be.any()) and not same:
        why = "the model has no padding token" if pad is None else f"the padding token {pad} also begins or ends texts"
        raise ValueError(
            f"prompt {int(may_be.nonzero()[0])} begins with token {int(first[may_be][0])}, which may be padding "
            f"({why}): give attention_mask, with 0 at padding"
        )
    return torch.zeros(len(prompts), dtype=torch.long)


def _ids(setting: int | list[int] | None) -> list[int]:
    if setting is None:
        return []
    return [setting] if isinstance(setting, int) else list(setting)


def _ends(mask: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """The first real column of each row, and the first column after its last."""
    if tuple(mask.shape) != tuple(columns.shape[:2]):
        raise ValueError(
            f"attention_mask has shape {list(mask.shape)}, but the texts need {list(columns.shape[:2])}: one number "
            f"for each column (masks of pairs of columns are not supported)"
        )
    real = mask != 0
    if not real.any(1).all():
        raise ValueError(f"row {int((~real.any(1)).nonzero()[0])} of attention_mask has no real column")
    begins = real.int().argmax(1)
    ends = real.shape[1] - real.flip(1).int().argmax(1)
    if bool((real.sum(1) != ends - begins).any()):
        row = int((real.sum(1) != ends - begins).nonzero()[0])
        raise ValueError(f"row {row} of attention_mask has a hole: the window needs columns without gaps")
    return begins, ends
