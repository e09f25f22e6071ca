"""What workers leave for the driver."""

from actors.pretraining.board import Board


def test_an_image_that_several_workers_cannot_decode_counts_once() -> None:
    board = Board()
    for place in ("a, row 1", "b, row 7", "a, row 1"):
        board.put_unreadable(place, "not a readable image")
    assert board.get_unreadable() == dict.fromkeys(("a, row 1", "b, row 7"), "not a readable image")
