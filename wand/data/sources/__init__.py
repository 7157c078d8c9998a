"""Corpora: where speech comes from."""
