"""Neighbours in blocks are those of the whole matrix."""

import pytest
import torch

from kernels import neighbours
from kernels.mean_shift import unit
from kernels.neighbours import NeighbourIndex, nearest, nearest_reference


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


def classes(count: int, dim: int = 24) -> torch.Tensor:
    """Images around 40 directions, float32."""
    centres = torch.randn(40, dim)
    return unit(centres[torch.randint(40, (count,))] + 0.3 * torch.randn(count, dim))


def recall(places: torch.Tensor, expected: torch.Tensor) -> float:
    """Share of the true neighbours that are among the given ones."""
    return (places[:, :, None] == expected[:, None]).any(dim=1).float().mean().item()


@pytest.mark.parametrize("itself", [True, False])
def test_lists_find_nearly_all_neighbours_and_say_their_cosines(
    itself: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    keys = classes(6_000)
    queries = keys[:2_500]
    own = torch.arange(len(queries)) if itself else None
    expected_values, expected = nearest_reference(queries, keys, 8, own)
    values, places = NeighbourIndex(keys).nearest(queries, 8, own)
    assert torch.equal(places, nearest(queries, keys, 8, own)[1])
    monkeypatch.setattr(neighbours, "EXACT_KEYS", 1_000)
    monkeypatch.setattr(neighbours, "LISTED_AT_ONCE", 700)
    index = NeighbourIndex(keys)
    values, places = index.nearest(queries, 8, own)
    assert recall(places, expected) > 0.99
    torch.testing.assert_close(values, (queries[:, None] * keys[places]).sum(dim=2))
    assert (values <= expected_values + 1e-6).all()
    assert (values.diff(dim=1) <= 0).all()
    assert all(len(row.unique()) == 8 for row in places)
    if own is not None:
        assert not (places == own[:, None]).any()
    one = index.nearest(queries[7:8], 8, None if own is None else own[7:8])[1]
    assert torch.equal(one, places[7:8])


def test_a_query_whose_lists_hold_too_few_keys_gets_its_neighbours_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbours, "EXACT_KEYS", 100)
    monkeypatch.setattr(neighbours, "PROBES", 1)
    torch.manual_seed(0)
    keys = unit(torch.randn(400, 6))
    itself = torch.arange(400)
    index = NeighbourIndex(keys)
    assert min(b - a for a, b in zip(index.bounds, index.bounds[1:], strict=False)) < 20
    values, places = index.nearest(keys, 20, itself)
    assert values.isfinite().all()
    assert all(len(row.unique()) == 20 for row in places)
    assert not (places == itself[:, None]).any()


def test_the_number_of_threads_changes_no_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXACT_KEYS", 1_000)
    torch.manual_seed(0)
    keys = classes(1_500, dim=64)
    answers = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            answers.append(NeighbourIndex(keys).nearest(keys, 8, torch.arange(len(keys))))
    finally:
        torch.set_num_threads(before)
    for values, places in answers[1:]:
        assert torch.equal(places, answers[0][1])
        assert torch.equal(values, answers[0][0])


def test_equal_images_are_each_others_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """All in one list: the other lists have no key."""
    monkeypatch.setattr(neighbours, "EXACT_KEYS", 100)
    keys = unit(torch.ones(300, 8))
    values, places = NeighbourIndex(keys).nearest(keys, 8, torch.arange(300))
    torch.testing.assert_close(values, torch.ones(300, 8))
    assert not (places == torch.arange(300)[:, None]).any()
