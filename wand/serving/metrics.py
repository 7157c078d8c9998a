"""Figures of a server in the format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# Bounds of the histogram of the time to the first sound, in seconds.
WAITS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one server.

    Attributes:
        responses: Responses, by path and status.
        speeches: Speeches that were begun, by how they ended.
        active: Requests that are waiting or being spoken.
        unread: Clients that did not read, and were disconnected.
        in_engine: Requests that the engine knows: they wait for a row or are in one.
        sound_seconds: Sound that was made.
        first_sound: Time from a request to its first sound.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.responses = Counter(
            "wand_responses", "Responses, by path and status.", ["path", "status"], registry=self._registry
        )
        self.speeches = Counter("wand_speeches", "Speeches, by how they ended.", ["end"], registry=self._registry)
        self.active = Gauge(
            "wand_active_requests", "Requests that are waiting or being spoken.", registry=self._registry
        )
        self.unread = Counter(
            "wand_unread_connections", "Clients that did not read, and were disconnected.", registry=self._registry
        )
        self.in_engine = Gauge(
            "wand_engine_requests", "Requests that wait for a row or are in one.", registry=self._registry
        )
        self.sound_seconds = Counter("wand_sound_seconds", "Sound that was made.", registry=self._registry)
        self.first_sound = Histogram(
            "wand_first_sound_seconds",
            "Time from a request to its first sound.",
            buckets=WAITS,
            registry=self._registry,
        )

    def text(self) -> bytes:
        """All figures, as Prometheus reads them."""
        return generate_latest(self._registry)
