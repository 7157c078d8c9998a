"""The name of prepared data: a digest of everything that determines the shards."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

from wand.codecs import Codec
from wand.data.shard_format import FORMAT
from wand.data.sources.source import SpeechSource
from wand.data.sources.teacher_samples import TeacherSamples
from wand.files.contents import content_digests
from wand.model.backbone import Backbone

# Raise this number when wand makes other shards of the same corpus, model and codec. Caches are then made anew.
PREPARATION = 3
# Properties of a model that decide which utterances are used, and what of them.
TRAITS = (
    "frame_rate", "sample_rate", "max_speech_tokens", "cut_references", "hears_references", "reads_references",
)  # fmt: skip


def cache_fingerprint(source: SpeechSource, backbone: Backbone, codec: Codec | None, max_seconds: float = 30.0) -> str:
    """Digest of corpus, conditioner, model and codec.

    Args:
        source: The corpus.
        backbone: The model.
        codec: The codec that encodes the speech; None if the corpus contains codes.
        max_seconds: Longest recording to use, in seconds.
    """
    heard = "codes" if codec is None else codec.fingerprint
    traits = [getattr(backbone, name) for name in TRAITS]
    code = code_digest(type(backbone)), code_digest(type(backbone.conditioner))
    parts = (source.fingerprint, backbone.conditioner.fingerprint, heard, f"{max_seconds:g}", repr(traits), *code)
    digest = hashlib.sha256("|".join((FORMAT, str(PREPARATION), *parts)).encode()).hexdigest()[:16]
    # Of a model that speaks the training data, the weights count, too.
    return digest + (backbone.pretrained_digest()[:8] if isinstance(source, TeacherSamples) else "")


def code_digest(kind: type) -> str:
    """Digest of the code of an adapter outside wand: its module, or all modules of its package.

    Code of wand counts as one version, `PREPARATION`, so that an update of wand does not make large caches anew.
    """
    module = inspect.getmodule(kind)
    file = getattr(module, "__file__", None)
    if file is None or kind.__module__.split(".")[0] == "wand":
        return ""
    package = getattr(module, "__package__", "")
    files = sorted(Path(file).parent.rglob("*.py")) if package else [Path(file)]
    return hashlib.sha256(repr([*content_digests(files).values()]).encode()).hexdigest()[:16]
