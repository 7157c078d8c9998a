"""Prefix + window attention: the window, the context of a forward pass, and the kernels."""

from wand.attention.context import AttentionContext
from wand.attention.interface import ATTENTION_NAME, use_wand_attention
from wand.attention.window import AttentionWindow, LayerWindows, WindowPolicy, Windows, resolve_windows

__all__ = [
    "ATTENTION_NAME",
    "AttentionContext",
    "AttentionWindow",
    "LayerWindows",
    "WindowPolicy",
    "Windows",
    "resolve_windows",
    "use_wand_attention",
]
