"""python -m jobs.demo

The whole way on one machine: factors, captions, images, pretraining, encoding, search, evaluation,
report. The same jobs that a cluster's user submits one by one; run again, it goes on where it was.
"""

import dataclasses
from pathlib import Path

from jsonargparse.typing import NonNegativeInt, PositiveInt

from actors.cells import MethodConfig
from actors.encoder import EncoderConfig
from actors.painter import PainterConfig
from actors.pretrain_config import PretrainerConfig
from actors.pretrain_probe import ProbeConfig
from actors.writer import WriterConfig
from cluster.catalog.dataset import DatasetName
from cluster.job import run_job
from cluster.row_pipeline import Pool
from jobs.captions import CaptionsConfig, captions
from jobs.dataset import DatasetConfig, dataset
from jobs.encode import EncodeConfig, encode
from jobs.evaluate import EvaluateConfig, evaluate
from jobs.factors import FactorsConfig, factors
from jobs.images import ImagesConfig, images
from jobs.pretrain import PretrainConfig, pretrain
from jobs.report import ReportConfig, closing_table, report
from jobs.search import SearchConfig, search

RECIPE = Path(__file__).parent / "recipes" / "demo.yaml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What the demo runs on; the parts' own settings are theirs."""

    storage: str = "runs/demo"
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    datasets: list[DatasetName]
    """Embedded datasets to adapt to; their classes make up the base set."""
    captions_per_class: PositiveInt
    """Captions of each class in the base set, four images each."""
    workers: PositiveInt = 2
    """Processes of each stage."""
    gpu: bool = False
    """One GPU for each worker of the pretraining."""
    pretrainer: PretrainerConfig
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    save_every: PositiveInt = 100
    """Steps between checkpoints of the pretraining."""
    methods: dict[str, MethodConfig]
    """The lines of the result table by their name."""
    seeds: list[NonNegativeInt]
    """Each draws other shots."""
    studies: str | None = None
    """Where the search keeps its trials: a database's URL or a local file. By default they are in
    the artifact, which only a storage on disk can hold."""


def demo(cfg: DemoConfig) -> None:
    """Runs every stage that is not done, prints the table of results and where the report is."""
    targets = [dataset(DatasetConfig(storage=cfg.storage, name=name)).uri for name in cfg.datasets]
    classes = factors(FactorsConfig(storage=cfg.storage, datasets=targets))
    texts = captions(
        CaptionsConfig(
            storage=cfg.storage,
            factors=classes.uri,
            writer=WriterConfig(per_class=cfg.captions_per_class, pool=Pool(max_workers=1)),
        )
    )
    base_set = images(
        ImagesConfig(
            storage=cfg.storage,
            captions=texts.uri,
            painter=PainterConfig(pool=Pool(max_workers=cfg.workers)),
        )
    )
    teacher = pretrain(
        PretrainConfig(
            storage=cfg.storage,
            base_set=base_set.uri,
            backbone=cfg.encoder.backbone,
            workers=cfg.workers,
            gpu=cfg.gpu,
            save_every=cfg.save_every,
            probe=ProbeConfig(dataset=targets[0], every=cfg.save_every),
            pretrainer=cfg.pretrainer,
        )
    )
    features = encode(
        EncodeConfig(
            storage=cfg.storage,
            datasets=targets,
            base_set=base_set.uri,
            encoder=cfg.encoder,
            workers=cfg.workers,
        )
    )
    encoded = [made.uri for made in features]
    adapted = search(
        SearchConfig(
            storage=cfg.storage,
            datasets=targets,
            features=encoded,
            teacher=teacher.uri,
            methods=cfg.methods,
            seeds=cfg.seeds,
            studies=cfg.studies,
            concurrent=cfg.workers,
        )
    )
    results = evaluate(
        EvaluateConfig(storage=cfg.storage, adapted=adapted.uri, datasets=targets, features=encoded)
    )
    made = report(
        ReportConfig(
            storage=cfg.storage,
            results=results.uri,
            adapted=adapted.uri,
            teacher=teacher.uri,
            base_set=base_set.uri,
            datasets=targets,
            features=encoded,
        )
    )
    print(f"\n{closing_table(results)}\n\nreport: {made.file('report.html')}")


if __name__ == "__main__":
    run_job(DemoConfig, demo, recipe=RECIPE)
