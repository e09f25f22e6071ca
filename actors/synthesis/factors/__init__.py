"""What captions and pictures vary in: by hand, or asked from a language model."""
