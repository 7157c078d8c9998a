"""Weights of the embedded default; every folder has a card (README.md) with data, recipe, figures and licence."""

from __future__ import annotations

from pathlib import Path


def asset_folder(name: str) -> Path:
    """The folder of an embedded asset.

    Raises:
        ValueError: If it did not come with this installation.
    """
    folder = Path(__file__).parent / name
    if not folder.is_dir():
        raise ValueError(f"the embedded asset {name!r} is missing at {folder}: reinstall wand-tts")
    return folder
