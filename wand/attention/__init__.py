"""Prefix + window attention: the policy, what one forward needs, and the kernels behind it."""

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
