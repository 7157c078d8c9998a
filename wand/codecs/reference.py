"""References: how a voice to be cloned sounds."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """How the voice to be cloned sounds; an adapter takes of it what it needs.

    Args:
        codes: Codes ``[K, R]`` of the reference in the model's own codec.
        audio: The sound, float32 ``[N]``, at the backbone's sample rate.
        text: What is said in it, where that is known.
        global_codes: Codes ``[G]`` of the voice as a whole, in codecs that part it from the speech (BiCodec).
        speaker: Name of the voice, for models that know voices by name.
    """

    codes: Tensor
    audio: Tensor | None = None
    text: str | None = None
    global_codes: Tensor | None = None
    speaker: str | None = None
