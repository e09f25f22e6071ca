"""Encoded and decoded pictures, and what a node keeps of them."""
