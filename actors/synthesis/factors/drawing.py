"""Drawing a caption's mode and factors from a table of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from actors.embedded.sprite_factors import FACTORS
from cluster.rows import row_rng

MODE_SHARES = {"Base": 0.4, "BG": 0.3, "LC": 0.2, "CD": 0.1}
"""Share of captions per mode: class and attribute; with background; with lighting; with camera
degradation.
Source: ImagineFSL, recipe of the released captions (most datasets)."""
MODE_LISTS: dict[str, tuple[str, ...]] = {
    "Base": (),
    "BG": ("backgrounds",),
    "LC": ("backgrounds", "lightings"),
    "CD": ("backgrounds", "degradations"),
}
"""What a mode tells beside an attribute and a viewpoint; a mode needs its last."""
FREQUENT_WEIGHT, RARE_WEIGHT, FREQUENT_SHARE = 4.0, 1.5, 0.6
"""Backgrounds are listed most frequent first: weight of the first 60 % and of the rest. Source:
ImagineFSL."""


def draw_factors(row_id: str, table: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Mode and factors of one caption, drawn by the row's own generator; factors the mode leaves
    out are empty.

    A mode whose own factor the table lacks gives its share to Base: so the recipes of SUN (no
    backgrounds) and of DTD and EuroSAT (Base alone) follow from their tables.

    table: "attributes", "backgrounds" (most frequent first), "viewpoints", "lightings",
    "degradations".
    """
    rng = row_rng(row_id, "factors")
    mode = str(rng.choice(list(MODE_SHARES), p=list(MODE_SHARES.values())))
    if mode != "Base" and not table[MODE_LISTS[mode][-1]]:
        mode = "Base"
    drawn = {"mode": mode, **dict.fromkeys(FACTORS, "")}
    drawn["attribute"] = _pick(rng, table["attributes"])
    drawn["viewpoint"] = _pick(rng, table["viewpoints"])
    if mode != "Base":
        places = table["backgrounds"]
        frequent = np.arange(len(places)) < FREQUENT_SHARE * len(places)
        weights = np.where(frequent, FREQUENT_WEIGHT, RARE_WEIGHT)
        drawn["background"] = _pick(rng, places, weights / weights.sum())
    if mode == "LC":
        drawn["lighting"] = _pick(rng, table["lightings"])
    if mode == "CD":
        drawn["degradation"] = _pick(rng, table["degradations"])
    return drawn


def _pick(
    rng: np.random.Generator, phrases: Sequence[str], weights: np.ndarray | None = None
) -> str:
    return str(phrases[rng.choice(len(phrases), p=weights)]) if phrases else ""
