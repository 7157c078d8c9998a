"""Alignment of speech and text: the heads that show it, and when each word is spoken."""
