"""python -m jobs.evaluate --config jobs/recipes/embedded_table.yaml
python -m jobs.evaluate --storage runs --adapted runs/adapted/… --datasets '[…]' --features '[…]'

Every kept model on test images, by every measure: the only job that opens the test split, once per
model.
"""

import dataclasses
import json
from functools import partial

from actors.search.evaluator import SCHEMAS, Evaluator
from actors.search.fits import Fit
from actors.search.measures import MEASURES
from actors.search.tasks import TaskSource, pair
from cluster.artifacts import Artifact, draft, open_artifact
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.pieces import Pieces, make_pieces
from cluster.pool import Pool
from cluster.progress import already_done
from cluster.storage import resolve
from jobs.computing import say_computing
from jobs.report.tables.results import closing_table
from jobs.search import SearchConfig, search
from jobs.world import with_world


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Which models are tested."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    search: SearchConfig | None = unhashed(None)
    """What to search and fit first, instead of the next three."""
    adapted: str | None = unhashed(None)
    """Artifact of kind "adapted": a path or URI."""
    datasets: list[str] = unhashed(default_factory=list)
    """The datasets of the search, as artifacts."""
    features: list[str] = unhashed(default_factory=list)
    """The features of the search, as artifacts."""
    pool: Pool = unhashed(default_factory=Pool)
    """Evaluators."""


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
        config=cfg,
        inputs={"adapted": adapted},
        content={"measures": list(MEASURES)},
    )
    if out.artifact:
        already_done("evaluate", out.artifact)
        return out.artifact
    fits = _fits(adapted)
    pieces = Pieces(out, SCHEMAS)
    load = partial(Evaluator, _source(cfg, adapted), adapted.uri)
    say_computing("evaluate", {fit.hyper.get("precision", "fp32") for fit in fits}, cfg.pool)
    make_pieces(pieces, fits, load, cfg.pool, title="evaluate", unit="models")
    return out.publish(pieces.gather(fit.key for fit in fits))


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


def _source(cfg: EvaluateConfig, adapted: Artifact) -> TaskSource:
    settings = adapted.manifest.config
    return TaskSource(
        datasets=tuple(map(resolve, cfg.datasets)),
        features=tuple(map(resolve, cfg.features)),
        teacher=None,
        val_policy=settings["val_policy"],
        templates=settings["templates"],
    )


def _fits(adapted: Artifact) -> list[Fit]:
    rows = adapted.read_table("fits").to_pylist()
    return [Fit(**{**row, "hyper": json.loads(row["hyper"])}) for row in rows]


def main(cfg: EvaluateConfig) -> Artifact:
    """Ends with the table of results."""
    results = evaluate(cfg)
    print(f"\n{closing_table(results)}\n")
    return results


if __name__ == "__main__":
    run_job(EvaluateConfig, main)
