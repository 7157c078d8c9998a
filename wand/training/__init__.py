"""Training: the Lightning module, the teacher, the curriculum, the optimizer and memory estimates."""
