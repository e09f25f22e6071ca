"""Runs of Ray Tune: all trials and fits that a search still needs."""

import os
import tempfile
from collections.abc import Callable, Sequence

from pyarrow.fs import LocalFileSystem
from ray import tune

from actors.search.fits import adopt
from actors.search.gathering import Gathering
from actors.search.progress import search_progress
from actors.search.searcher import CellSearcher
from actors.search.studies import NUMBER, CellStudy
from actors.search.tasks import TaskSource
from actors.search.trials import run_trial
from cluster.beside_driver import actor_beside_driver
from cluster.connect import require_ray
from cluster.errors import ConfigError
from cluster.nodes import Nodes, is_loss, watched_nodes
from cluster.pool import Pool

RUNS = 3
"""Of Tune, at most, but for those in which a node was lost: it gives a trial up whose worker died
while two calls of it were under way."""


def run_studies(
    current_studies: Callable[[], list[CellStudy]], source: TaskSource, folder: str, pool: Pool
) -> list[CellStudy]:
    """The studies of a search, complete; the model of each one's best trial is a fit, too.

    current_studies: opens them with what is done so far. folder: URI of the search's.
    Raises ConfigError for a setting that a worker could not use, RuntimeError if a trial broke down
    for another reason than that its worker was lost.
    """
    studies = current_studies()
    if any(study.remaining for study in studies):
        require_ray()
        with watched_nodes("search", pool.resources()) as nodes:
            studies = _completed(studies, current_studies, source, folder, pool, nodes)
    for study in studies:
        if study.cell.config.trials:
            adopt(folder, study.winner().user_attrs[NUMBER], study.cell.key, study.search_seed)
    return studies


def _completed(
    studies: list[CellStudy],
    current_studies: Callable[[], list[CellStudy]],
    source: TaskSource,
    folder: str,
    pool: Pool,
    nodes: Nodes,
) -> list[CellStudy]:
    """The studies after as many runs of Tune as they need."""
    runs_left = RUNS
    while True:
        lost_before = len(nodes.lost)
        errors = _run(studies, source, folder, pool)
        if not errors:
            return studies
        losses = all(is_loss(error) for error in errors)
        if not (losses and nodes.lost_since(lost_before)):
            runs_left -= 1
        if not (losses and runs_left):
            raise RuntimeError(f"{len(errors)} trials broke down; the first: {errors[0]}")
        studies = current_studies()


def _run(
    studies: list[CellStudy], source: TaskSource, folder: str, pool: Pool
) -> Sequence[Exception]:
    """All remaining trials and fits in one Tune run; returns why some broke down."""
    # What Tune writes is not needed: the studies and the kept models are the state of a search.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    workers = min(pool.workers, sum(study.at_once for study in studies))
    trial = tune.with_parameters(
        run_trial,
        source=source,
        cells={study.cell.key: study.cell for study in studies},
        folder=folder,
        gathering=actor_beside_driver(Gathering, workers),
        pool=pool,
    )
    with tempfile.TemporaryDirectory() as logs, search_progress(studies, folder) as on_done:
        searcher = CellSearcher(studies, on_done)
        results = tune.Tuner(
            tune.with_resources(trial, tune.PlacementGroupFactory([pool.resources()])),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,  # the searcher knows when it has no more
                max_concurrent_trials=pool.workers,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=logs,
                storage_filesystem=LocalFileSystem(),  # else its path is read as a URI
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=2),
            ),
        ).fit()
    if searcher.refusal:
        raise ConfigError(searcher.refusal)
    return results.errors
