"""python -m jobs.search --config jobs/recipes/embedded_search.yaml
python -m jobs.search --config search.yaml --storage runs --datasets '[…]' --features '[…]'

Every method on every dataset with every number of shots: hyper-parameters are searched on val, and
the best are fitted on several seeds.
"""

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import ray
from jsonargparse.typing import NonNegativeInt, PositiveInt
from ray import tune
from ray.exceptions import OutOfMemoryError, RayActorError

from actors.search.cells import Cell, MethodConfig, declared_cells
from actors.search.fits import MODELS, adopt, fits_table, kept
from actors.search.progress import progress_table, search_progress
from actors.search.searcher import CellSearcher
from actors.search.studies import (
    NUMBER,
    CellStudy,
    open_studies,
    trials_table,
)
from actors.search.tasks import Tasks, TaskSource
from actors.search.trials import Gathering, run_trial
from cluster.artifacts import Artifact, Draft, draft, open_artifact
from cluster.catalog.splits import ShotRule, ValPolicy
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.pool import Pool
from cluster.progress import already_done
from cluster.storage import resolve
from jobs.computing import say_computing
from jobs.world import WorldConfig, with_world
from models.text_classifier import TemplateSet

LOST_WORKER = (RayActorError, OutOfMemoryError)
"""A fault of the machine, not of the trial."""
RUNS = 3
"""Of Tune, at most: it gives a trial up whose worker died while two calls of it were under way."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Which cells are searched, and how."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    world: WorldConfig | None = unhashed(None)
    """Embedded datasets and a base set to make first, instead of the next four."""
    datasets: list[str] = unhashed(default_factory=list)
    """Artifacts of kind "dataset": paths or URIs."""
    features: list[str] = unhashed(default_factory=list)
    """Artifacts of kind "features", one of each dataset, in any order."""
    teacher: str | None = unhashed(None)
    """Artifact of kind "teacher", for the methods that start from one."""
    base_set: str | None = unhashed(None)
    """Artifact of kind "images" that the features hold imagined images of, for the methods that
    learn on pictures."""
    methods: dict[str, MethodConfig]
    """The lines of the result table by their name."""
    seeds: list[NonNegativeInt] = dataclasses.field(default_factory=lambda: [0, 1, 2])
    """Each draws other shots for the final fits; the first one's are searched on."""
    val_policy: ValPolicy = "min"
    """Validation images per class that choices are made on: none, min(shots, 4), or all."""
    shot_rule: ShotRule = "hash"
    """How shots are drawn: the project's own way, as CoOp does (with its seeds 1 to 3 its very
    images, given its split files), or from lists that a dataset came with."""
    templates: TemplateSet = "hand"
    """Prompts of the zero-shot classifier, which other methods start from."""
    generation: PositiveInt = 4
    """Trials of a cell that are tried side by side; they know those of earlier generations."""
    population: PositiveInt | None = unhashed(None)
    """Trials of a generation that one process trains together, where the method can; default: all.
    Fewer of them spread a cell over more CPUs or GPUs, which pays where one trial fills one."""
    studies: str | None = unhashed(None)
    """Optuna's database URL, or a local file for a journal; default: a file in the artifact."""
    pool: Pool = unhashed(default_factory=Pool)
    """Processes, each of which trains a population at a time."""


def search(cfg: SearchConfig) -> Artifact:
    """Writes an "adapted" artifact: models/{cell}/{seed}/, and the tables `fits`, `trials` and
    `progress`."""
    cfg = with_world(cfg)
    source = task_source(cfg)
    tasks = Tasks(source)
    cells = _checked_cells(cfg, tasks)
    inputs = {f"features {name}": e.store.artifact for name, e in tasks.encoded.items()}
    if cfg.teacher:
        inputs["teacher"] = open_artifact(cfg.teacher, "teacher")
    population = min(cfg.population or cfg.generation, cfg.generation)
    content = {"population": population}
    out = draft(cfg.storage, "adapted", "search", config=cfg, inputs=inputs, content=content)
    if out.artifact:
        already_done("search", out.artifact)
        return out.artifact
    models = out.file(MODELS)
    for again in reversed(range(RUNS)):
        found = {cell.key: [s for s in cfg.seeds if kept(models, cell.key, s)] for cell in cells}
        sizes = cfg.generation, population
        studies = open_studies(cells, cfg.seeds, found, _studies_url(cfg, out), *sizes)
        errors = _run(cfg, source, studies, out.uri)
        if not errors:
            break
        if not again or not all(isinstance(error, LOST_WORKER) for error in errors):
            raise RuntimeError(f"{len(errors)} trials broke down; the first: {errors[0]}")
    for study in studies:
        if study.cell.config.trials:
            adopt(out.uri, study.winner().user_attrs[NUMBER], study.cell.key, study.search_seed)
    tables = {
        "fits": fits_table(models, [(c.key, s) for c in cells for s in c.seeds(cfg.seeds)]),
        "trials": trials_table(studies),
        "progress": progress_table(out.uri),
    }
    for name, table in tables.items():
        out.write_table(name, table)
    return out.publish({name: len(table) for name, table in tables.items()})


def task_source(cfg: SearchConfig) -> TaskSource:
    """The part of the configuration that tasks are built from."""
    return TaskSource(
        datasets=tuple(map(resolve, cfg.datasets)),
        features=tuple(map(resolve, cfg.features)),
        teacher=cfg.teacher and resolve(cfg.teacher),
        val_policy=cfg.val_policy,
        templates=cfg.templates,
        shot_rule=cfg.shot_rule,
        base_set=cfg.base_set and resolve(cfg.base_set),
    )


def _checked_cells(cfg: SearchConfig, tasks: Tasks) -> list[Cell]:
    """All cells, every one of which can be run; ConfigError else, before anything is computed."""
    shared: dict[str, Any] = {"templates": cfg.templates}
    if tasks.teacher:  # one without pretraining gets an adapter of the same size
        shared["adapter"] = tasks.teacher.model["adapter"]
    cells = list(declared_cells(list(tasks.encoded), cfg.methods, shared))
    for cell in cells:
        where = f"methods.{cell.name}"
        if cell.config.teacher and not cfg.teacher:
            raise ConfigError(
                f"teacher: none, but {where}.teacher is true; allowed: a teacher artifact"
            )
        if cell.config.trials and (cfg.val_policy == "none" or not cell.shots):
            raise ConfigError(
                f"{where}.trials: {cell.config.trials} with val_policy {cfg.val_policy!r} and "
                f"{cell.shots} shots; allowed: 0, for there is no val to choose on"
            )
        wanted = getattr(cell.hyper, "templates", cfg.templates)
        if "prompts" in (wanted, cfg.templates) and not tasks.encoded[cell.dataset].prompts("all"):
            raise ConfigError(
                f"templates: 'prompts', but dataset {cell.dataset!r} came without prompts; "
                "allowed: hand, ensemble"
            )
        tasks.check_pictures(cell)
        for seed in cell.seeds(cfg.seeds):
            tasks.split(cell, seed)
    return cells


def _studies_url(cfg: SearchConfig, out: Draft) -> str:
    url = cfg.studies or out.file("studies.journal")
    if not cfg.studies and "://" in url:
        raise ConfigError(
            f"studies: none, but storage {cfg.storage!r} is no local folder, where a journal could "
            "grow; allowed: a database URL of Optuna's, or a local file"
        )
    return url


def _run(
    cfg: SearchConfig, source: TaskSource, studies: list[CellStudy], folder: str
) -> Sequence[Exception]:
    """All remaining trials and fits in one Tune run; returns why some broke down."""
    remaining = sum(study.remaining for study in studies)
    if not remaining:
        return []
    # What Tune writes is not needed: the studies and the kept models are the state of a search.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    cells = {study.cell.key: study.cell for study in studies}
    precisions = {getattr(cell.hyper, "precision", "fp32") for cell in cells.values()}
    say_computing("search", precisions, cfg.pool)
    workers = min(cfg.pool.workers, sum(study.at_once for study in studies))
    gathering = ray.remote(num_cpus=0)(Gathering).remote(workers)
    trial = tune.with_parameters(
        run_trial,
        source=source,
        cells=cells,
        folder=folder,
        gathering=gathering,
        pool=cfg.pool,
    )
    with tempfile.TemporaryDirectory() as logs, search_progress(studies, folder) as on_done:
        results = tune.Tuner(
            tune.with_resources(trial, tune.PlacementGroupFactory([cfg.pool.resources()])),
            tune_config=tune.TuneConfig(
                search_alg=CellSearcher(studies, on_done),
                num_samples=-1,  # the searcher knows when it has no more
                max_concurrent_trials=cfg.pool.workers,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=logs,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=2),
            ),
        ).fit()
    return results.errors


if __name__ == "__main__":
    run_job(SearchConfig, search)
