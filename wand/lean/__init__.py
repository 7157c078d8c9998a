"""A faster implementation of a decoder body for speaking."""
