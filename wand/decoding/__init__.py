"""Decoding column by column with a cache of constant size: cache, decoder, samplers, stop rules."""
