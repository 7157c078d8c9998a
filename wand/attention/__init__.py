"""Prefix + window attention: the policy, what one forward needs, and the kernels behind it."""

from wand.attention.context import AttentionContext
from wand.attention.interface import ATTENTION_NAME, use_wand_attention
from wand.attention.window import AttentionWindow

__all__ = ["ATTENTION_NAME", "AttentionContext", "AttentionWindow", "use_wand_attention"]
