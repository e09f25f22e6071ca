"""Measurements: `python -m jobs.bench NAME`, one module each."""
