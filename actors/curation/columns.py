"""The columns of a critique's imagined pictures, from all parts, in the order of the decisions."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from actors.curation.critique import sort_places
from actors.curation.decisions import PRECEDENCE
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
    """Rows of all imagined pictures in PRECEDENCE, their places, and the rows of each part.

    The columns that order them are read first, the others one by one, and no more than one of them
    is in memory twice.
    """
    parts = [unpacked.read("rows", key, PRECEDENCE) for key in keys]
    sizes = {key: len(part) for key, part in zip(keys, parts, strict=True)}
    waiting = pa.concat_tables(parts).unify_dictionaries()
    del parts
    order = sort_places(waiting, PRECEDENCE)
    columns: dict[str, pa.Array] = {}
    for name in [*PRECEDENCE, *(name for name in ROWS.names if name not in PRECEDENCE)]:
        if name not in PRECEDENCE:
            tables = [unpacked.read("rows", key, [name]) for key in keys]
            waiting = pa.concat_tables(tables).unify_dictionaries()
            del tables
        columns[name] = waiting[name].combine_chunks().take(pa.array(order))
        waiting = waiting.drop_columns([name])
    pa.default_memory_pool().release_unused()  # a third of what was used while it was read
    return pa.table(columns), order, sizes
