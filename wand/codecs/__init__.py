"""Audio to codes and back."""

from wand.codecs.base import Codec
from wand.codecs.encodec import EncodecCodec

__all__ = ["Codec", "EncodecCodec"]
