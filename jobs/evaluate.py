"""python -m jobs.evaluate --config jobs/recipes/embedded_table.yaml
python -m jobs.evaluate --storage runs --adapted runs/adapted/… --datasets '[…]' --features '[…]'

Test accuracy of every kept model: the only job that opens the test split, once per model.
"""

import dataclasses
import json
from typing import Any

import pyarrow as pa
import ray
from jsonargparse.typing import PositiveInt
from pyarrow.fs import FileType
from ray.util import ActorPool

from actors.search.evaluator import SCHEMAS, Evaluator
from actors.search.tasks import TaskSource, pair
from actors.search.trials import Fit
from cluster.artifacts import Artifact, Draft, draft, open_artifact
from cluster.job import run_job
from cluster.progress import already_done, stage
from cluster.storage import ConfigError, read, resolve
from jobs.report.tables import closing_table
from jobs.search import SearchConfig, search
from jobs.world import with_world

Found = dict[str, list[dict[str, Any]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which models are tested."""

    storage: str
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    search: SearchConfig | None = None
    """What to search and fit first, instead of the next three."""
    adapted: str | None = None
    """Artifact of kind "adapted": a path or URI."""
    datasets: list[str] = dataclasses.field(default_factory=list)
    """The datasets of the search, as artifacts."""
    features: list[str] = dataclasses.field(default_factory=list)
    """The features of the search, as artifacts."""
    workers: PositiveInt = 2
    """Evaluators, one CPU each."""


def evaluate(cfg: EvaluateConfig) -> Artifact:
    """Writes a "results" artifact: the tables of `actors.search.evaluator.SCHEMAS`."""
    cfg = _searched(cfg)
    adapted = open_artifact(cfg.adapted or "", "adapted")
    encoded = pair(cfg.datasets, cfg.features)
    for name, of_dataset in encoded.items():
        expected = adapted.manifest.inputs.get(f"features {name}")
        if of_dataset.store.artifact.manifest.content_hash != expected:
            raise ConfigError(
                f"features: {of_dataset.store.artifact.uri!r} is not what {cfg.adapted!r} was made "
                "from; allowed: the features of that search"
            )
    out = draft(
        cfg.storage,
        "results",
        "results",
        content={name: schema.names for name, schema in SCHEMAS.items()},
        config=cfg,
        inputs={"adapted": adapted},
    )
    if out.artifact:
        already_done("evaluate", out.artifact)
        return out.artifact
    fits = _fits(adapted)
    found = _evaluated(cfg, adapted, out, fits)
    for name, schema in SCHEMAS.items():
        rows = [row for part in found for row in part[name]]
        out.write_table(name, pa.Table.from_pylist(rows, schema))
    return out.publish({name: sum(len(part[name]) for part in found) for name in SCHEMAS})


def _searched(cfg: EvaluateConfig) -> EvaluateConfig:
    """The configuration with the models of its search in it; ConfigError if it has none."""
    if cfg.search is None:
        if not (cfg.adapted and cfg.datasets and cfg.features):
            raise ConfigError(
                "adapted: none; allowed: an artifact with its datasets and features, or a search"
            )
        return cfg
    if cfg.adapted or cfg.datasets or cfg.features:
        raise ConfigError("search: given together with artifacts; allowed: one of them")
    given = with_world(cfg.search)
    adapted = search(given).uri
    return dataclasses.replace(
        cfg, search=None, adapted=adapted, datasets=given.datasets, features=given.features
    )


def _evaluated(cfg: EvaluateConfig, adapted: Artifact, out: Draft, fits: list[Fit]) -> list[Found]:
    """What each model scores, in the order of `fits`; an earlier run's are read."""
    settings = adapted.manifest.config
    source = TaskSource(
        datasets=tuple(map(resolve, cfg.datasets)),
        features=tuple(map(resolve, cfg.features)),
        teacher=None,
        val_policy=settings["val_policy"],
        templates=settings["templates"],
    )
    missing = [fit for fit in fits if _part(out, fit) is None]
    with stage("evaluate", len(fits), "models", done=len(fits) - len(missing)) as progress:
        worker = ray.remote(num_cpus=1, max_restarts=2, max_task_retries=2)(Evaluator)
        workers = min(cfg.workers, len(missing))
        pool = ActorPool([worker.remote(source, adapted.uri) for _ in range(workers)])
        tested = pool.map_unordered(lambda actor, fit: actor.evaluate.remote(fit), missing)
        for fit, found in tested if missing else ():
            out.write_json(_name(fit), found)
            progress.advance()
    return [part for fit in fits if (part := _part(out, fit)) is not None]


def _fits(adapted: Artifact) -> list[Fit]:
    rows = adapted.read_table("fits").to_pylist()
    return [Fit(**{**row, "hyper": json.loads(row["hyper"])}) for row in rows]


def _name(fit: Fit) -> str:
    return f"models/{fit.cell}-{fit.seed}.json"


def _part(out: Draft, fit: Fit) -> Found | None:
    fs, folder = out.filesystem()
    path = f"{folder}/{_name(fit)}"
    return json.loads(read(fs, path)) if fs.get_file_info(path).type == FileType.File else None


def main(cfg: EvaluateConfig) -> Artifact:
    """Ends with the table of results."""
    results = evaluate(cfg)
    print(f"\n{closing_table(results)}\n")
    return results


if __name__ == "__main__":
    run_job(EvaluateConfig, main)
