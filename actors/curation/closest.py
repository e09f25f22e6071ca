"""Pairs of an imagined picture and a test image by which a reader judges what counts as a copy."""

from typing import Any

import numpy as np
import pyarrow as pa

from actors.curation.critique import Critique, as_text
from actors.curation.likeness import NONE, Nearest, Pictures

CLOSEST = 20
"""Number of pairs of a kept picture and a test image that are listed, by cosine and by hash."""
PAIRS_AT_ONCE = 2**14


class Smallest:
    """Of pairs that are given some at a time the CLOSEST, in order of their values; of those of
    equal values the ones of the first rows."""

    def __init__(self) -> None:
        self.values, self.rows, self.tests = np.empty(0), *np.empty((2, 0), dtype=np.int64)

    def take(self, values: np.ndarray, rows: np.ndarray, tests: np.ndarray) -> None:
        """values, rows, tests: (P,) of pairs of a row of an imagined picture, which is in no other
        pair, and a test image."""
        values = np.concatenate([self.values, values])
        rows, tests = np.concatenate([self.rows, rows]), np.concatenate([self.tests, tests])
        few = np.arange(len(values))
        if len(values) > CLOSEST:
            few = np.flatnonzero(values <= np.partition(values, CLOSEST - 1)[CLOSEST - 1])
        few = few[np.lexsort((rows[few], values[few]))][:CLOSEST]
        self.values, self.rows, self.tests = values[few], rows[few], tests[few]


class ClosestPairs:
    """The closest accepted pairs of pictures that are looked at some at a time, in any order."""

    def __init__(self) -> None:
        self.by_cosine, self.by_hash = Smallest(), Smallest()

    def take(self, rows: np.ndarray, near: Nearest) -> None:
        """rows: (M,) of the imagined pictures that `near` is of."""
        accepted = np.flatnonzero((near.copied == NONE) & (near.by_cosine != NONE))
        some = rows[accepted]
        self.by_cosine.take(-near.cosine[accepted], some, near.by_cosine[accepted])
        self.by_hash.take(near.distance[accepted], some, near.by_hash[accepted])


def pairs_table(
    imagined: Critique,
    tests: Critique,
    refused: np.ndarray,
    copy_of: np.ndarray,
    closest: ClosestPairs,
) -> pa.Table:
    """All refused pairs and the closest accepted ones.

    refused, copy_of: (R,) rows of imagined pictures in ascending order and of the test images that
    they are copies of. Columns as `actors.curation.decisions.Curation.contamination` says.
    """
    chosen = {
        "refused": (refused, copy_of),
        "closest by cosine": (closest.by_cosine.rows, closest.by_cosine.tests),
        "closest by hash": (closest.by_hash.rows, closest.by_hash.tests),
    }
    imagined_rows, test_rows = map(np.concatenate, zip(*chosen.values(), strict=True))
    bits, cosine = _compared(imagined.pictures, imagined_rows, tests.pictures, test_rows)
    columns: dict[str, Any] = {
        "imagined_id": as_text(imagined.rows["id"].take(imagined_rows)),
        "class_name": as_text(imagined.rows["class_name"].take(imagined_rows)),
        "test_id": as_text(tests.rows["id"].take(test_rows)),
        "test_class_name": as_text(tests.rows["class_name"].take(test_rows)),
        "dataset": as_text(tests.rows["dataset"].take(test_rows)),
        "hash_distance": pa.array(bits, pa.int32()),
        "cosine": pa.array(cosine),
        "listed": pa.array(
            [name for name, (which, _) in chosen.items() for _ in which], pa.string()
        ),
    }
    return pa.table(columns)


def _compared(
    imagined: Pictures, rows: np.ndarray, tests: Pictures, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bits in which hashes of pairs differ, and cosines of their embeddings: (P,) each."""
    bits = np.bitwise_count(imagined.hashes[rows] ^ tests.hashes[places])
    cosine = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        left, right = imagined.embeddings[rows[part]], tests.embeddings[places[part]]
        cosine[part] = (left.astype(np.float32) * right.astype(np.float32)).sum(axis=1)
    return bits, cosine
