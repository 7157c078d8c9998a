"""Adapters, one file per text-to-speech model; `wand.backbone.known_backbones` lists them without importing any."""
