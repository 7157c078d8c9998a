"""The losses of WAND: formulas, divergences by name, chunked computation."""
