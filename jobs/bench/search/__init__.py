"""The search against the original's procedure, and how its cost grows."""
