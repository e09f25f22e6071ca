"""The columns of a critique's imagined pictures, from all parts, in the order of the decisions."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from actors.curation.critique import digests, sort_places
from actors.curation.decisions import PRECEDENCE
from actors.curation.hashes import place_type
from cluster.pieces import Pieces

_NAMES = pa.dictionary(pa.int32(), pa.string())
_LOOKS = [("score", pa.float32()), ("contrast", pa.float32()), ("hash", pa.uint64())]
ROWS = pa.schema(
    [
        ("id", pa.binary(16)),
        *((name, _NAMES) for name in ("dataset", "class_name", "group")),
        *((name, pa.int32()) for name in ("index", "view")),
        *_LOOKS,
        ("pixels", pa.binary(16)),
        ("reason", pa.string()),
    ]
)


def imagined_rows(
    unpacked: Pieces, keys: Sequence[str]
) -> tuple[pa.Table, np.ndarray, dict[str, int]]:
    """Rows of all imagined pictures in PRECEDENCE but their pixels, their places, and the rows of
    each part.

    The columns that order them are read first, the others one by one, and no more than one of them
    is in memory twice. `digests_in_order` reads the pixels, for what they decide takes no other.
    """
    parts = [unpacked.read("rows", key, PRECEDENCE) for key in keys]
    sizes = {key: len(part) for key, part in zip(keys, parts, strict=True)}
    waiting = pa.concat_tables(parts).unify_dictionaries()
    del parts
    order = sort_places(waiting, PRECEDENCE)
    columns: dict[str, pa.Array] = {}
    for name in [*PRECEDENCE, *(n for n in ROWS.names if n not in (*PRECEDENCE, "pixels"))]:
        if name not in PRECEDENCE:
            tables = [unpacked.read("rows", key, [name]) for key in keys]
            waiting = pa.concat_tables(tables).unify_dictionaries()
            del tables
        columns[name] = waiting[name].combine_chunks().take(pa.array(order))
        waiting = waiting.drop_columns([name])
    pa.default_memory_pool().release_unused()  # a third of what was used while it was read
    return pa.table(columns), order.astype(place_type(len(order))), sizes


def digests_in_order(unpacked: Pieces, keys: Sequence[str], places: np.ndarray) -> np.ndarray:
    """(N, 2) uint64: the pixels of the imagined pictures in PRECEDENCE; places: (N,) of them."""
    rows, start = rows_at(places), 0
    values = np.empty((len(rows), 2), dtype=np.uint64)
    for key in keys:
        part = digests(unpacked.read("rows", key, ["pixels"])["pixels"])
        values[rows[start : start + len(part)]] = part
        start += len(part)
    return values


def rows_at(places: np.ndarray) -> np.ndarray:
    """(N,) the row whose place each is; places: (N,) all of them, in the order of the rows."""
    rows = np.empty_like(places)
    rows[places] = np.arange(len(places), dtype=places.dtype)
    return rows
