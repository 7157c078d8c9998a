"""Read and write weights and sound files."""
