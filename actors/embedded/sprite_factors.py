"""The embedded table of factors: what captions and pictures vary in, beside the class."""

from functools import cache
from importlib import resources
from typing import Any

import yaml

FACTORS = ("attribute", "background", "viewpoint", "lighting", "degradation")


@cache
def factor_table() -> dict[str, dict[str, Any]]:
    """Factor kind -> phrase -> what the sprite painter does for it (see `sprite_factors.yaml`)."""
    return yaml.safe_load(
        resources.files("actors.embedded").joinpath("sprite_factors.yaml").read_text("utf-8")
    )
