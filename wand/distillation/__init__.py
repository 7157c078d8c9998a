"""The losses of WAND: formulas, divergences by name, and chunked computation."""
