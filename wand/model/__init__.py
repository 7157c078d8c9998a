"""The interface of a model (`Backbone`), and its parts: heads, columns, batches, prompts."""
