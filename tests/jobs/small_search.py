"""A search on the small world, for a driver of its own: `python -m tests.jobs.small_search DIR`."""

import sys
from pathlib import Path

from cluster.connect import connect
from cluster.pool import Pool
from jobs.search import SearchConfig, search
from tests.actors.small_world import METHODS


def config(folder: Path, storage: str, workers: int = 2) -> SearchConfig:
    """DIR holds the dataset and its features; results go to DIR/storage."""
    return SearchConfig(
        storage=str(folder / storage),
        datasets=[str(path) for path in folder.glob("dataset/*")],
        features=[str(path) for path in folder.glob("features/*")],
        methods=METHODS,
        seeds=[0, 1],
        generation=2,
        pool=Pool(workers=workers),
    )


if __name__ == "__main__":
    with connect():
        search(config(Path(sys.argv[1]), sys.argv[2]))
