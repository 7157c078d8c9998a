"""Lightning callbacks of wand: the window curriculum and the loggers."""

from wand.callbacks.comparison import ComparisonTable
from wand.callbacks.memory import MemoryEstimate
from wand.callbacks.pictures import AttentionPictures
from wand.callbacks.speech import SpeechLogger
from wand.callbacks.throughput import ThroughputLogger
from wand.callbacks.window_curriculum import WindowCurriculum

__all__ = [
    "AttentionPictures",
    "ComparisonTable",
    "MemoryEstimate",
    "SpeechLogger",
    "ThroughputLogger",
    "WindowCurriculum",
]
