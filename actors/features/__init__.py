"""Frozen CLIP tokens: the encoder, and the store that every process of a node maps."""
