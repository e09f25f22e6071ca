"""Captions class by class: written, accepted or asked for again."""
