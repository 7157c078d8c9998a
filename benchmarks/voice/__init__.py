"""How well the voice is understood, at every stage from the original speech to the student."""
