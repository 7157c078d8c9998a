"""Text: front ends, sentences, espeak-ng."""
