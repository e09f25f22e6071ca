"""Which captions a gallery shows."""

from jobs.report.pages.gallery import in_turn

POOLS = [
    [(dataset, "fox", index) for index in range(5)] for dataset in ("animals", "food", "music")
]


def test_every_pool_is_drawn_from_before_a_second_turn() -> None:
    assert [dataset for dataset, _, _ in in_turn(POOLS, 6, 0)] == [
        *("animals", "animals"), *("food", "food"), *("music", "music")
    ]  # fmt: skip


def test_the_seed_alone_decides() -> None:
    assert in_turn(POOLS, 4, 0) == in_turn(POOLS, 4, 0)
    assert len({tuple(in_turn(POOLS, 4, seed)) for seed in range(10)}) > 1


def test_few_captions_are_all_shown() -> None:
    assert len(in_turn(POOLS, 100, 0)) == 15
    assert in_turn([], 12, 0) == []
