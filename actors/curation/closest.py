"""Pairs of an imagined picture and a test image by which a reader judges what counts as a copy."""

from typing import Any

import numpy as np
import pyarrow as pa

from actors.curation.critique import Critique, as_text
from actors.curation.likeness import NONE, Nearest, Pictures

CLOSEST = 20
"""Number of pairs of a kept picture and a test image that are listed, by cosine and by hash."""
PAIRS_AT_ONCE = 2**14


def closest_pairs(imagined: Critique, rows: np.ndarray, tests: Critique, near: Nearest) -> pa.Table:
    """All refused pairs and the CLOSEST accepted ones; rows: those of `imagined` that `near` is of.

    Columns as `actors.curation.decisions.Curation.contamination` says.
    """
    refused = np.flatnonzero(near.copied != NONE)
    accepted = np.flatnonzero((near.copied == NONE) & (near.by_cosine != NONE))
    by_cosine = accepted[_smallest(-near.cosine[accepted])]
    by_hash = accepted[_smallest(near.distance[accepted])]
    chosen = {
        "refused": (refused, near.copied[refused]),
        "closest by cosine": (by_cosine, near.by_cosine[by_cosine]),
        "closest by hash": (by_hash, near.by_hash[by_hash]),
    }
    imagined_rows = rows[np.concatenate([which for which, _ in chosen.values()])]
    test_rows = np.concatenate([places for _, places in chosen.values()])
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


def _smallest(values: np.ndarray) -> np.ndarray:
    """Places of the CLOSEST smallest of (N,), in their order; of equal ones the first."""
    if len(values) > CLOSEST:
        places = np.flatnonzero(values <= np.partition(values, CLOSEST - 1)[CLOSEST - 1])
    else:
        places = np.arange(len(values))
    return places[np.argsort(values[places], kind="stable")][:CLOSEST]


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
