"""Neighbours in blocks are those of the whole matrix."""

import pytest
import torch

from kernels import neighbours
from kernels.mean_shift import unit
from kernels.neighbours import nearest, nearest_reference


@pytest.mark.parametrize("shape", [(1, 9), (37, 50), (64, 64)])
@pytest.mark.parametrize("itself", [True, False])
def test_blocks_give_what_the_whole_matrix_gives(
    shape: tuple[int, int], itself: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "QUERIES_AT_ONCE", 10)
    monkeypatch.setattr(neighbours, "KEYS_AT_ONCE", 7)
    queries, keys = (unit(torch.randn(n, 12)).double() for n in shape)
    own = torch.arange(len(queries)) if itself else None
    if own is not None:
        keys[: len(queries)] = queries[: len(keys)]
        own[0] = -1  # does not know itself, and so finds itself
    values, places = nearest(queries, keys, 8, own)
    expected_values, expected = nearest_reference(queries, keys, 8, own)
    torch.testing.assert_close(values, expected_values)
    assert torch.equal(places, expected)
    if own is not None:
        assert places[0, 0] == 0
        assert not (places[1:] == own[1:, None]).any()


def test_more_neighbours_than_images_are_refused() -> None:
    points = unit(torch.randn(5, 3))
    with pytest.raises(ValueError, match="neighbours: 5; allowed: 1 to 4"):
        nearest(points, points, 5, torch.arange(5))
