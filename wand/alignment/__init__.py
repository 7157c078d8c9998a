"""Alignment of speech and text: the heads that show it (``wand align``), and when each word is spoken."""
