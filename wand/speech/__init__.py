"""From text to sound: synthesizers, speaking, voices."""
