"""Ablations of the method: what each of its parts is worth."""
