"""A driver whose pools lie in several groups of a cluster; what came of each is a line of JSON."""

import dataclasses
import json
import sys
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cluster.artifacts import draft
from cluster.connect import connect
from cluster.errors import ConfigError
from cluster.pieces import Pieces, Tables, make_pieces
from cluster.pool import Pool
from cluster.row_pipeline import Batch, make_rows

SCHEMA = pa.schema([("id", pa.string())])


class Rows:
    def __call__(self, batch: Batch) -> Batch:
        return {**batch, "reason": np.full(len(batch["id"]), "")}


@dataclass(frozen=True)
class Piece:
    key: str


class OfPieces:
    def __call__(self, piece: Piece) -> Tables:
        return {"pieces": pa.table({"id": [piece.key]})}


def outcome(storage: str, kind: str, pool: Pool) -> dict[str, object]:
    """The manifest of an artifact that a pool has made, or the refusal."""
    out = draft(storage, "factors", kind, config=None, inputs={}, content={"pool": pool})
    try:
        if kind == "rows":
            plan, one = pa.table({"id": ["a"]}), {"title": "rows", "unit": "rows"}
            make_rows(out, "rows", plan, Rows, **one, block_rows=1, pool=pool)
        else:
            pieces = Pieces(out, {"pieces": SCHEMA})
            make_pieces(pieces, [Piece("a")], OfPieces, pool, title="pieces", unit="pieces")
            pieces.gather(["a"])
    except ConfigError as error:
        return {"refusal": str(error)}
    return dataclasses.asdict(out.publish({}).manifest)


def main(storage: str, pools: str) -> None:
    """pools: JSON, a list of [rows or pieces, the settings of a Pool]."""
    with connect():
        for kind, settings in json.loads(pools):
            print(json.dumps(outcome(storage, kind, Pool(workers=1, **settings))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
