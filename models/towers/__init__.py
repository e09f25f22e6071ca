"""Towers of a CLIP, one file per kind of network; open_clip and timm build the networks."""
