"""python -m jobs.demo

The whole way on one machine: factors, captions, images, pretraining, encoding, search, evaluation,
report. The same jobs that a cluster's user submits one by one; run again, it goes on where it was.
"""

import dataclasses
from pathlib import Path

from jsonargparse.typing import NonNegativeInt

from actors.search.cells import MethodConfig, require_methods
from actors.search.databases import require_answer, require_studies
from cluster.job import run_job
from jobs.evaluate import EvaluateConfig, evaluate
from jobs.report.job import ReportConfig, report
from jobs.report.tables.results import closing_table
from jobs.search import SearchConfig, search
from jobs.world import WorldConfig, world

RECIPE = Path(__file__).parent / "recipes" / "demo.yaml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig(WorldConfig):
    """What the demo runs on; the parts' own settings are theirs."""

    storage: str = "runs/demo"
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    methods: dict[str, MethodConfig]
    """The lines of the result table by their name."""
    seeds: list[NonNegativeInt]
    """Each draws other shots."""
    studies: str | None = None
    """Where the search keeps its trials: a database's URL or a local file. By default they are in
    the artifact, which only a storage on disk can hold."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_methods("methods", self.methods)
        require_studies(self.studies, self.storage)


def demo(cfg: DemoConfig) -> None:
    """Runs every stage that is not done, prints the table of results and where the report is."""
    require_answer(cfg.studies)
    parts = world(cfg.storage, cfg)
    datasets, features = ([a.uri for a in of_all] for of_all in (parts.datasets, parts.features))
    adapted = search(
        SearchConfig(
            storage=cfg.storage,
            datasets=datasets,
            features=features,
            teacher=parts.teacher.uri,
            base_set=parts.base_set.uri,
            methods=cfg.methods,
            seeds=cfg.seeds,
            studies=cfg.studies,
            pool=cfg.pool,
        )
    )
    results = evaluate(
        EvaluateConfig(
            storage=cfg.storage,
            adapted=adapted.uri,
            datasets=datasets,
            features=features,
            pool=cfg.pool,
        )
    )
    page = report(
        ReportConfig(
            storage=cfg.storage,
            results=results.uri,
            adapted=adapted.uri,
            teacher=parts.teacher.uri,
            base_set=parts.base_set.uri,
            datasets=datasets,
            features=features,
        )
    )
    print(f"\n{closing_table(results)}\n\nreport: {page.file('report.html')}")


if __name__ == "__main__":
    run_job(DemoConfig, demo, recipe=RECIPE)
