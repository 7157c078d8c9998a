"""Sounds measured against recordings: speech in time with DTW, and the round trip of a codec."""

from wand.metrics.recorded.codec import CodecFidelity
from wand.metrics.recorded.distances import Distances, RecordingDistances, SoundFrames, distances, frame_distances

__all__ = ["CodecFidelity", "Distances", "RecordingDistances", "SoundFrames", "distances", "frame_distances"]
