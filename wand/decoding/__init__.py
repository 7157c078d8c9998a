"""Decoding column by column with a cache that does not grow: cache, decoder, samplers, stop rules."""
