"""Painters: captions to pictures."""
