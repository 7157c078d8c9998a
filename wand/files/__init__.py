"""Reading and writing files: weights, sound."""
