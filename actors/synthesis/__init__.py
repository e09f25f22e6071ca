"""From class names to a base set: factors, captions, pictures; base sets in and out."""
