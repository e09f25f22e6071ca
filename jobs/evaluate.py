"""python -m jobs.evaluate --config jobs/recipes/embedded_table.yaml
python -m jobs.evaluate --storage runs --adapted runs/adapted/… --datasets '[…]' --features '[…]'

Every kept model on test images, by every measure: the only job that opens the test split, once per
model.
"""

import dataclasses
from functools import partial

from actors.search.databases import require_answer
from actors.search.evaluator import SCHEMAS, Evaluator
from actors.search.measures import MEASURES
from actors.search.tables import read_fits
from actors.search.tasks import pair, task_source
from cluster.artifacts import Artifact, draft, open_artifact
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.pieces import Pieces, make_pieces
from cluster.pool import Pool
from cluster.progress import already_done
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

    def __post_init__(self) -> None:
        artifacts = (self.adapted, self.datasets, self.features)
        if self.search is None and not all(artifacts):
            raise ConfigError(
                "adapted: none; allowed: an artifact with its datasets and features, or a search"
            )
        if self.search is not None and any(artifacts):
            raise ConfigError("search: given together with artifacts; allowed: one of them")


def evaluate(cfg: EvaluateConfig) -> Artifact:
    """Writes a "results" artifact: the tables of `actors.search.evaluator.SCHEMAS`."""
    cfg = _searched(cfg)
    adapted = open_artifact(cfg.adapted or "", "adapted")
    for name, encoded in pair(cfg.datasets, cfg.features).items():
        features = encoded.store.artifact
        if features.content_hash != adapted.manifest.inputs.get(f"features {name}"):
            raise ConfigError(
                f"features: {features.uri!r} is not what {cfg.adapted!r} was made from; allowed: "
                "the features of that search"
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
    fits = read_fits(adapted)
    settings = adapted.manifest.config
    source = task_source(
        cfg.datasets,
        cfg.features,
        val_policy=settings["val_policy"],
        templates=settings["templates"],
    )
    pieces = Pieces(out, SCHEMAS)
    load = partial(Evaluator, source, adapted.uri, cfg.pool.device)
    say_computing("evaluate", {fit.hyper.get("precision", "fp32") for fit in fits}, cfg.pool)
    make_pieces(pieces, fits, load, cfg.pool, title="evaluate", unit="models")
    return out.publish(pieces.gather(fit.key for fit in fits))


def _searched(cfg: EvaluateConfig) -> EvaluateConfig:
    """The configuration with the models of its search in it."""
    if cfg.search is None:
        return cfg
    require_answer(cfg.search.studies)
    search_cfg = with_world(cfg.search)
    return dataclasses.replace(
        cfg,
        search=None,
        adapted=search(search_cfg).uri,
        datasets=search_cfg.datasets,
        features=search_cfg.features,
    )


def main(cfg: EvaluateConfig) -> Artifact:
    """Ends with the table of results."""
    results = evaluate(cfg)
    print(f"\n{closing_table(results)}\n")
    return results


if __name__ == "__main__":
    run_job(EvaluateConfig, main)
