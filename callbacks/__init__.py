"""Lightning callbacks of wand: the window curriculum, the loggers, and what makes runs resumable."""

from wand.callbacks.attention_pictures import AttentionPictures
from wand.callbacks.comparison_table import ComparisonTable
from wand.callbacks.memory_estimate import MemoryEstimate
from wand.callbacks.model_checkpoint import ModelCheckpoint
from wand.callbacks.plain_progress import PlainProgress
from wand.callbacks.resume_point import ResumePoint
from wand.callbacks.speech import SpeechLogger
from wand.callbacks.stop_at_signal import StopAtSignal
from wand.callbacks.throughput import ThroughputLogger
from wand.callbacks.window_curriculum import WindowCurriculum

__all__ = [
    "AttentionPictures",
    "ComparisonTable",
    "MemoryEstimate",
    "ModelCheckpoint",
    "PlainProgress",
    "ResumePoint",
    "SpeechLogger",
    "StopAtSignal",
    "ThroughputLogger",
    "WindowCurriculum",
]
