"""Squares, each a slow piece of work on a worker, for tests that take something from the job."""

import dataclasses
import time

import pyarrow as pa

from cluster.artifacts import Artifact, draft
from cluster.content import unhashed
from cluster.pieces import Pieces, make_pieces
from cluster.pool import Pool

NUMBERS = 16
SCHEMAS = {"squares": pa.schema([("square", pa.int64())])}


@dataclasses.dataclass(frozen=True)
class Number:
    value: int

    @property
    def key(self) -> str:
        return f"n-{self.value}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SquaresConfig:
    storage: str = unhashed()
    pool: Pool = unhashed()


class Squarer:
    def __call__(self, number: Number) -> dict[str, pa.Table]:
        time.sleep(0.5)
        return {"squares": pa.table({"square": [number.value**2]}, SCHEMAS["squares"])}


def make(cfg: SquaresConfig) -> Artifact:
    """Writes a "results" artifact with one table."""
    out = draft(cfg.storage, "results", "toy", config=cfg, inputs={})
    pieces = Pieces(out, SCHEMAS)
    works = [Number(value) for value in range(NUMBERS)]
    make_pieces(pieces, works, Squarer, cfg.pool, title="squares", unit="numbers")
    return out.publish(pieces.gather([work.key for work in works]))
