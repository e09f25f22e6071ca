"""The smallest job, for the tests of the command line: squares on Ray, one artifact."""

import os
from dataclasses import dataclass, field

import ray
from jsonargparse.typing import PositiveFloat, PositiveInt

from cluster.artifacts import Artifact, draft
from cluster.connect import require_ray
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.progress import already_done, show_progress
from cluster.rows import row_seed


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    lr: PositiveFloat = 1e-3
    """Step size."""


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    storage: str = unhashed()
    """Root of artifacts."""
    rows: PositiveInt = 2
    """How many rows to make."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        if self.rows == 12:
            raise ConfigError("rows: 12 does not suit the rest; allowed: any other number")


@ray.remote
def work(index: int) -> tuple[int, str]:
    return row_seed(str(index)) % 10, os.getcwd()


def toy(cfg: ToyConfig) -> Artifact:
    if cfg.rows == 13:
        raise ConfigError("rows: 13 is unlucky; allowed: any other number")
    toy_draft = draft(cfg.storage, "factors", "toy", config=cfg, inputs={})
    if toy_draft.artifact:
        already_done("toys", toy_draft.artifact)
        return toy_draft.artifact
    require_ray()
    with show_progress("toys", cfg.rows, "rows") as progress:
        for index in range(cfg.rows):
            ray.get(work.remote(index))
            progress.advance(loss=0.5)
    return toy_draft.publish({"rows": cfg.rows}, extra={"cpus": ray.cluster_resources()["CPU"]})


if __name__ == "__main__":
    run_job(ToyConfig, toy)
