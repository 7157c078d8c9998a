"""The check of codes that come from outside: from a corpus, a codec or a saved voice."""

from __future__ import annotations

import torch
from torch import Tensor

from wand.files.sound import Unusable
from wand.model.backbone import Backbone
from wand.model.columns import FlattenedLayout


def allowed_codes(backbone: Backbone) -> Tensor:
    """Bool ``[rows, V]``: the codes that a model speaks in each row of codes: not stop, filler or control tokens."""
    layout = backbone.layout
    if isinstance(layout, FlattenedLayout):
        # A column with the row after the last code of its slot becomes the size of the slot, in the order of the codes.
        ends = torch.tensor(layout.sizes).cumsum(0)[:, None]
        return torch.arange(max(layout.sizes)) < layout.from_columns(ends)
    allowed = torch.ones(layout.num_codebooks, backbone.speech_vocab_size, dtype=torch.bool)
    if (forbidden := backbone.forbidden_tokens()) is not None:
        allowed &= ~forbidden.cpu()
    others = {*backbone.stop_ids, layout.stop_id, layout.filler_id}
    allowed[:, [row for row in others if 0 <= row < allowed.shape[1]]] = False
    return allowed


def check_codes(codes: Tensor, allowed: Tensor) -> Tensor:
    """Refuse codes that are not those of a model.

    Args:
        codes: The codes.
        allowed: The codes that the model speaks, from `allowed_codes`.

    Returns:
        The codes as int64 ``[rows, F]``.

    Raises:
        Unusable: If they are not whole numbers ``[rows, F]`` with F > 0, or one is not spoken by the model.
    """
    check_whole_numbers(codes, "its codes")
    shape, rows = list(codes.shape), len(allowed)
    if codes.ndim == 3 and shape[0] == 1:
        raise Unusable("shape of codes", f"its codes have the shape {shape}: leave out the first dimension")
    if codes.ndim != 2:
        raise Unusable("shape of codes", f"its codes have the shape {shape}: give [codebooks, frames]")
    if shape[0] != rows:
        hint = ", they look transposed" if shape[1] == rows else ""
        raise Unusable("shape of codes", f"its codes have {shape[0]} rows, the model has {rows}{hint}")
    if shape[1] == 0:
        raise Unusable("empty", "its codes are empty: they have no frame")
    codes = codes.long()
    inside = (codes >= 0) & (codes < allowed.shape[1])
    spoken = inside & allowed.gather(1, codes.clamp(0, allowed.shape[1] - 1))
    if not spoken.all():
        row, frame = (~spoken).nonzero()[0].tolist()
        known = allowed[row].nonzero()[:, 0].tolist()
        raise Unusable(
            "codes out of range",
            f"its code {int(codes[row, frame])} in row {row}, frame {frame} is not a code of the model, which has "
            f"{known[0]} to {known[-1]}",
        )
    return codes


def check_whole_numbers(values: Tensor, name: str) -> None:
    """Refuse values that are not whole numbers by their type.

    Raises:
        Unusable: If they are refused; the message begins with `name`.
    """
    if values.is_floating_point() and not values.isfinite().all():
        raise Unusable("type of codes", f"{name} have values that are not finite numbers")
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        kind = str(values.dtype).removeprefix("torch.")
        raise Unusable("type of codes", f"{name} are of type {kind}: give whole numbers")
