"""Where the attention of a model goes while it speaks, and the windows that cover a wanted share of it."""
