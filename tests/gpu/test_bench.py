"""`jobs.bench pretrain --gpu true` at small sizes; its figures are printed."""

import json
from dataclasses import replace

from jobs.bench.feeding import Feeding, b16_feeding, feeding
from tests.actors.small_base_set import CONFIG


def test_small_training() -> None:
    shapes = Feeding(
        replace(CONFIG, precision="auto"), "tiny", "cuda", 40, 24, 20, compiled=(False,)
    )
    figures = feeding(shapes)
    print(json.dumps(figures, indent=1))
    assert all(value > 0 for value in figures.values())


def test_the_released_recipe_of_vit_b_16() -> None:
    """Without compiling, which takes a minute: `python -m jobs.bench pretrain --gpu true` does."""
    figures = feeding(replace(b16_feeding(), compiled=(False,), steps=20))
    print(json.dumps(figures, indent=1))
    assert figures["plain_memory_of_tower"] > 0
