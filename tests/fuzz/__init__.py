"""Seeded cases for everything that users hand to wand; half of them are valid, and compared with an independent truth.

`python -m tests.fuzz --cases 10000 --seed N` runs them and prints a table; the test suite runs a few hundred.
"""
