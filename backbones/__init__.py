"""Adapters, one folder for each model family. `wand.registry` maps their names to modules without importing them."""
