"""Console output: progress and tables."""
