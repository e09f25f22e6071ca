"""Prompts in front of a language model."""

from functools import partial

from actors.synthesis.captions.rows import draw_prompts
from actors.synthesis.language_models.stages import SMALL_CPUS, Stage


def prompted(answer: Stage, factors: str) -> Stage:
    """The stage of a language model as a caption writer's, which is asked by `draw_prompts`."""
    draw = partial(draw_prompts, factors=factors)
    return lambda rows: answer(rows.map_batches(draw, batch_format="pyarrow", num_cpus=SMALL_CPUS))
