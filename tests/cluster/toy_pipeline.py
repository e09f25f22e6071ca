"""python -m tests.cluster.toy_pipeline DIR: slow enough to be killed, and notes every row that
it makes."""

import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
import pyarrow as pa

from cluster.artifacts import Artifact, draft
from cluster.connect import connect
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.pool import Pool
from cluster.row_pipeline import make_rows
from cluster.rows import row_id, row_rng

ROWS, BLOCK = 60, 5
SLOW = 0.1
"""Seconds a row."""


class SlowDice:
    """Reads `id`; adds `eyes`, and a `reason` where a six is refused."""

    def __init__(self, log: str, seconds: float) -> None:
        self.log, self.seconds = log, seconds

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        eyes = [int(row_rng(str(row)).integers(1, 7)) for row in batch["id"]]
        for row in batch["id"]:
            time.sleep(self.seconds)
            with Path(self.log).open("a") as file:
                file.write(f"{row}\n")
        reason = ["no sixes" if value == 6 else "" for value in eyes]
        return batch | {"eyes": np.array(eyes), "reason": np.array(reason, dtype=object)}


class RefusedDice:
    """Cannot use its setting, and says so when it is built or when it is called."""

    def __init__(self, when: str) -> None:
        if when == "built":
            refuse_dice()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return refuse_dice()


def refuse_dice() -> NoReturn:
    raise ConfigError("dice: loaded; allowed: fair ones")


@dataclass(frozen=True, kw_only=True)
class RefusedConfig:
    storage: str = unhashed()
    when: Literal["built", "called"] = "built"


def refused(cfg: RefusedConfig) -> Artifact:
    out = draft(cfg.storage, "images", "toy", config=cfg, inputs={})
    plan = pa.table({"id": ["a", "b"]})
    worker, pool = partial(RefusedDice, cfg.when), Pool(workers=1)
    make_rows(out, "rows", plan, worker, title="dice", unit="rows", block_rows=BLOCK, pool=pool)
    return out.publish({})


@dataclass(frozen=True, kw_only=True)
class DiceConfig:
    storage: str = unhashed()
    rows: int = 150
    seconds: float = unhashed(0.0)
    """That each row takes."""
    pool: Pool = unhashed(default_factory=lambda: Pool(workers=3))


def dice(cfg: DiceConfig) -> Artifact:
    out = draft(cfg.storage, "images", "toy", config=cfg, inputs={})
    plan = pa.table({"id": [row_id("toy", "dice", i, 0, "1") for i in range(cfg.rows)]})
    worker = partial(SlowDice, str(Path(cfg.storage, "made.txt")), cfg.seconds)
    count = make_rows(
        out, "rows", plan, worker, title="dice", unit="rows", block_rows=BLOCK, pool=cfg.pool
    )
    return out.publish({"rows": len(plan), "refused": count})


def run(folder: Path, seconds: float = 0) -> Artifact:
    """seconds: that each row takes."""
    one = Pool(workers=1)
    with connect():
        return dice(DiceConfig(storage=str(folder), rows=ROWS, seconds=seconds, pool=one))


if __name__ == "__main__":
    run(Path(sys.argv[1]), SLOW)
