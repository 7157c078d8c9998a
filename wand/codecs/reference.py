"""References: the voice to clone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The voice to clone. An adapter uses the fields that it needs.

    Args:
        codes: Codes ``[K, R]`` of the reference, from the codec of the model.
        audio: Audio, float32 ``[N]``, at the sample rate of the backbone.
        text: Transcript, if known.
        global_codes: Global codes ``[G]`` of the voice, for codecs that separate voice and speech (BiCodec).
        speaker: Name of the voice, for models that know voices by name.
    """

    codes: Tensor
    audio: Tensor | None = None
    text: str | None = None
    global_codes: Tensor | None = None
    speaker: str | None = None
