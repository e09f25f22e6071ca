"""python -m jobs.evaluate --config jobs/recipes/embedded_table.yaml
python -m jobs.evaluate --storage runs --adapted runs/adapted/… --datasets '[…]' --features '[…]'
python -m jobs.evaluate --storage runs --models '[runs/model/…]' --datasets '[runs/dataset/…]'

Every kept model on test images, by every measure: the only job that opens the test split, once per
model. With --models it tests whatever has been saved or imported, each by its own CLIP, on every
dataset given, also one that it has not learned: cross-dataset tests and shifts of a dataset.
"""

import dataclasses
from collections import Counter
from functools import partial

from actors.search.databases import require_answer
from actors.search.evaluator import Evaluator
from actors.search.measures import MEASURES
from actors.search.results import SCHEMAS
from actors.search.saved_models import saved_models
from actors.search.saved_tests import SavedEvaluator, SavedTest
from actors.search.tables import read_fits
from actors.search.tasks import pair, task_source
from cluster.artifacts import Artifact, draft, open_artifact
from cluster.catalog.dataset import open_dataset
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.pieces import Pieces, make_pieces
from cluster.pool import Pool
from cluster.progress import already_done
from cluster.rows import slug
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
    """What to search and fit first, instead of artifacts."""
    adapted: str | None = unhashed(None)
    """Artifact of kind "adapted": a path or URI."""
    datasets: list[str] = unhashed(default_factory=list)
    """The datasets of the search, or those that `models` are tested on, as artifacts."""
    features: list[str] = unhashed(default_factory=list)
    """The features of the search, as artifacts."""
    models: list[str] = unhashed(default_factory=list)
    """Instead of `adapted`, whose test images are encoded: artifacts of kind "model" or "adapted",
    or folders of one saved model that all nodes see. Each model is tested on each dataset, where it
    computes the test pictures itself."""
    download: bool = unhashed(False)
    """Whether the CLIP that the card of one of `models` names may be fetched."""
    pool: Pool = unhashed(default_factory=Pool)
    """Evaluators."""

    def __post_init__(self) -> None:
        artifacts = (self.adapted, self.datasets, self.features)
        if self.search is not None and any((*artifacts, self.models)):
            raise ConfigError("search: given together with artifacts; allowed: one of them")
        if self.models and (self.adapted or self.features):
            raise ConfigError(
                "models: given together with adapted or features; allowed: with datasets alone"
            )
        if self.models and not self.datasets:
            raise ConfigError("datasets: none; allowed: those that the models are tested on")
        if self.search is None and not self.models and not all(artifacts):
            raise ConfigError(
                "adapted: none; allowed: an artifact with its datasets and features, models with "
                "datasets, or a search"
            )


def evaluate(cfg: EvaluateConfig) -> Artifact:
    """Writes a "results" artifact: the tables of `actors.search.results.SCHEMAS`."""
    if cfg.models:
        return _evaluate_saved(cfg)
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


def _evaluate_saved(cfg: EvaluateConfig) -> Artifact:
    models, datasets = saved_models(cfg.models), [open_dataset(uri) for uri in cfg.datasets]
    if twice := [name for name, n in Counter(d.name for d in datasets).items() if n > 1]:
        raise ConfigError(f"datasets: {twice[0]!r} is there twice; allowed: no name twice")
    out = draft(
        cfg.storage,
        "results",
        "saved-models",
        config=cfg,
        inputs={f"dataset {dataset.name}": dataset.artifact for dataset in datasets},
        content={
            "measures": list(MEASURES),
            "models": [[model.hash, *model.place] for model in models],
        },
    )
    if out.artifact:
        already_done("evaluate", out.artifact)
        return out.artifact
    tests = [
        SavedTest(model, dataset.artifact.uri, f"{number}-{slug(dataset.name)}")
        for number, model in enumerate(models)
        for dataset in datasets
    ]
    pieces, load = Pieces(out, SCHEMAS), partial(SavedEvaluator, cfg.download, cfg.pool.device)
    make_pieces(pieces, tests, load, cfg.pool, title="evaluate", unit="tests")
    return out.publish(pieces.gather(test.key for test in tests))


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
