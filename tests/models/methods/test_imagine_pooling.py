"""Imagined images are pooled when they are drawn, and once."""

import torch

from models.methods.imagine_model import ImagineModel
from models.methods.imagine_training import (
    _LAST_POOLED,
    Batches,
    ImagineFslHyper,
    _pooled_imagined,
)
from models.methods.imaginefsl import ImagineFsl
from models.moment_adapter import AdapterConfig
from tests.models.methods.tasks import task

HYPER = ImagineFslHyper(
    head_steps=3, steps=1, batch_imagined=5, adapter=AdapterConfig(depth=1, inner=16, heads=1)
)


def test_what_is_pooled_is_what_pooling_all_gives_of_these_rows() -> None:
    imagined = task(imagined=True).imagined
    assert imagined is not None
    tokens = imagined.tokens.flatten(0, 1)
    torch.manual_seed(0)
    model = ImagineModel(tokens.shape[-1], 4, HYPER.adapter, "fp32")
    every = model.pool_all(tokens)
    some, more = torch.tensor([1, 4, 9]), torch.tensor([0, 4, 5])
    for rows in (some, more):
        pooled = _pooled_imagined(model, imagined, rows)
        torch.testing.assert_close(pooled.moments, every.moments[rows])
        torch.testing.assert_close(pooled.cls, every.cls[rows])


def test_a_fit_pools_what_its_head_steps_draw_and_no_more() -> None:
    toys = task(imagined=True)
    assert toys.imagined is not None
    ImagineFsl.fit(toys, HYPER, seed=0)
    batches = Batches(toys, HYPER, seed=0)
    drawn = {int(row) for _ in range(HYPER.head_steps) for row in batches.next()[0][1]}
    assert set(_LAST_POOLED[toys.imagined.tokens].rows.tolist()) == drawn
    assert len(drawn) == 15 < toys.imagined.tokens.shape[:2].numel()


def test_rows_to_come_are_those_of_the_next_batches() -> None:
    toys = task(imagined=True)
    batches, rows = Batches(toys, HYPER, seed=1), Batches(toys, HYPER, seed=1).drawn(4)
    for source in range(2):
        again = Batches(toys, HYPER, seed=1)
        assert {int(r) for _ in range(4) for r in again.next()[0][source]} == set(
            rows[source].tolist()
        )
    assert [len(part) for part in batches.drawn(0)] == [0, 0]
