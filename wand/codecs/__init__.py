"""Codecs: audio to codes and back."""

from wand.codecs.base import Codec
from wand.codecs.encodec import EncodecCodec
from wand.codecs.encodec_package import EncodecPackageCodec
from wand.codecs.streaming import CodecStream

__all__ = ["Codec", "CodecStream", "EncodecCodec", "EncodecPackageCodec"]
