"""Lightning callbacks of wand: the window curriculum and the loggers."""

from wand.callbacks.attention_pictures import AttentionPictures
from wand.callbacks.comparison_table import ComparisonTable
from wand.callbacks.memory_estimate import MemoryEstimate
from wand.callbacks.plain_progress import PlainProgress
from wand.callbacks.speech import SpeechLogger
from wand.callbacks.throughput import ThroughputLogger
from wand.callbacks.window_curriculum import WindowCurriculum

__all__ = [
    "AttentionPictures",
    "ComparisonTable",
    "MemoryEstimate",
    "PlainProgress",
    "SpeechLogger",
    "ThroughputLogger",
    "WindowCurriculum",
]
