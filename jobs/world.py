"""python -m jobs.world --storage runs/mine --config jobs/recipes/world.yaml

All that a search on embedded datasets starts from: datasets, the base set imagined for their
classes, a teacher pretrained on it, and features. The jobs behind it, one after the other.
"""

import dataclasses
import json
from typing import Any, NamedTuple, TypeVar

from jsonargparse.typing import PositiveInt

from actors.embedded.concepts import DatasetName
from actors.features.encoder import EncoderConfig
from actors.pretraining.config import PretrainerConfig
from actors.pretraining.probe import ProbeConfig
from actors.synthesis.captions.writer import WriterConfig
from actors.synthesis.painters.painter import PainterConfig
from cluster.artifacts import Artifact
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.pool import Pool
from jobs.dataset import DatasetConfig, dataset
from jobs.encode import EncodeConfig, encode
from jobs.factors import FactorsConfig, factors
from jobs.pretrain import PretrainConfig, pretrain
from jobs.synthesize import SynthesizeConfig, synthesize

INPUTS = ("datasets", "features", "teacher", "base_set")
"""Fields of jobs that a world can fill."""
Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Which embedded datasets, and how large a base set; the parts' own settings are theirs."""

    datasets: list[DatasetName]
    """Embedded datasets to adapt to; their classes make up the base set."""
    captions_per_class: PositiveInt
    """Captions of each class in the base set, four images each."""
    pool: Pool = unhashed(default_factory=Pool)
    """Processes of each stage."""
    pretrainer: PretrainerConfig
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    save_every: PositiveInt = 100
    """Steps between checkpoints of the pretraining."""


class World(NamedTuple):
    """What was made; datasets and features in the order of the configuration."""

    datasets: list[Artifact]
    base_set: Artifact
    teacher: Artifact
    features: list[Artifact]


def world(storage: str, cfg: WorldConfig) -> World:
    """Makes what is not there yet. storage: root of runs and artifacts, a local path or a URI."""
    datasets = [dataset(DatasetConfig(storage=storage, name=name)) for name in cfg.datasets]
    targets = [made.uri for made in datasets]
    classes = factors(FactorsConfig(storage=storage, datasets=targets))
    base_set = synthesize(
        SynthesizeConfig(
            storage=storage,
            factors=classes.uri,
            writer=WriterConfig(per_class=cfg.captions_per_class, pool=Pool(workers=1)),
            painter=PainterConfig(pool=cfg.pool),
        )
    )
    teacher = pretrain(
        PretrainConfig(
            storage=storage,
            base_set=base_set.uri,
            backbone=cfg.encoder.backbone,
            pool=cfg.pool,
            save_every=cfg.save_every,
            probe=ProbeConfig(dataset=targets[0], every=cfg.save_every),
            pretrainer=cfg.pretrainer,
        )
    )
    features = encode(
        EncodeConfig(
            storage=storage,
            datasets=targets,
            base_set=base_set.uri,
            encoder=cfg.encoder,
            pool=cfg.pool,
        )
    )
    return World(datasets, base_set, teacher, features)


def with_world(cfg: Config) -> Config:
    """The configuration of a job with the artifacts of its `world` in it, made if they are missing.

    cfg: has `storage`, `world` and those of INPUTS that its job reads. Raises ConfigError if
    artifacts are given beside a world, or neither.
    """
    given: Any = cfg
    inputs = [name for name in INPUTS if hasattr(cfg, name)]
    if given.world is None:
        if not (given.datasets and given.features):
            raise ConfigError("datasets: none; allowed: artifacts with their features, or a world")
        return cfg
    for name in inputs:
        if getattr(cfg, name):
            raise ConfigError(f"{name}: given together with world; allowed: one of them")
    made = world(given.storage, given.world)
    uris = {
        "datasets": [dataset.uri for dataset in made.datasets],
        "features": [features.uri for features in made.features],
        "teacher": made.teacher.uri,
        "base_set": made.base_set.uri,
    }
    return dataclasses.replace(given, world=None, **{name: uris[name] for name in inputs})


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldJob(WorldConfig):
    """The same, and where it goes."""

    storage: str
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""


def main(cfg: WorldJob) -> None:
    made = world(cfg.storage, cfg)
    for artifact in (*made.datasets, made.base_set, made.teacher, *made.features):
        print(json.dumps({"kind": artifact.manifest.kind, "artifact": artifact.uri}))


if __name__ == "__main__":
    run_job(WorldJob, main)
