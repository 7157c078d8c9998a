"""Scripts that serve a released model's own codec; they run in its environment, where there is no wand."""
