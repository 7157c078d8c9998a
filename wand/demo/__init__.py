"""Demo speech: sentences of our own, spoken by espeak-ng, for tests and the embedded default."""
