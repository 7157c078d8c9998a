"""Adapters, one folder per model family; `wand.registry` finds them by name without importing any."""
