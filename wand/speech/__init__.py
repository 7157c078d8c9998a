"""Text to sound: synthesizers, options, voices."""
