"""python -m jobs.world --storage runs/mine --config jobs/recipes/parts/embedded_world.yaml

All that a search starts from: datasets, the base set imagined for their classes, a teacher
pretrained on it, and features. The jobs behind it, one after the other.
"""

import dataclasses
from typing import Any, NamedTuple, TypeVar

from jsonargparse.typing import PositiveInt

from actors.embedded.concepts import require_known
from actors.embedded.imagined_scenes import HANDS
from actors.features.encoder import EncoderConfig, backbone, require_names
from actors.features.selection import Selection
from actors.pretraining.config import PretrainerConfig
from actors.pretraining.probe import ProbeConfig
from actors.pretraining.trainable import require_batch, require_teachable
from actors.synthesis.captions.writer import WriterConfig
from actors.synthesis.painters.painter import PainterConfig
from cluster.artifacts import Artifact
from cluster.catalog.dataset import open_dataset
from cluster.errors import ConfigError
from cluster.job import run_job, show_made
from cluster.pool import Pool
from jobs.dataset import DatasetConfig, DatasetSpec, dataset
from jobs.encode import EncodeConfig, encode
from jobs.factors import FactorsConfig, FactorsSpec, factors
from jobs.pretrain import PretrainConfig, pretrain
from jobs.synthesize import SynthesizeConfig, synthesize
from models.clip import Clip

INPUTS = ("datasets", "features", "teacher", "base_set")
"""Fields of jobs that a world can fill."""
SHORT = 64
"""Bytes of a name that any CLIP can read: a token is a byte at least."""
Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Which datasets, and how their base set is imagined; the parts' own settings are theirs."""

    datasets: list[str | DatasetSpec]
    """Datasets to adapt to, whose classes make up the base set: the name of an embedded one, or
    what `jobs.dataset` takes, such as {name: eurosat, root: /data/coop}."""
    factors: FactorsSpec = dataclasses.field(default_factory=FactorsSpec)
    """Where the factors of captions come from."""
    writer: WriterConfig = dataclasses.field(default_factory=WriterConfig)
    """Who writes the captions, and how many."""
    painter: PainterConfig = dataclasses.field(default_factory=PainterConfig)
    """Who paints them, and how often."""
    pretrainer: PretrainerConfig
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    select: Selection = dataclasses.field(default_factory=Selection)
    """Which of the images are encoded."""
    save_every: PositiveInt = 100
    """Steps between checkpoints of the pretraining, and between looks at the first dataset."""
    pool: Pool = dataclasses.field(default_factory=Pool)
    """Processes of pretraining, encoding and all that follows."""

    def __post_init__(self) -> None:
        require_known(name for name in self.datasets if isinstance(name, str))
        names = [spec.name for spec in _specs(self)]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"datasets: two of them are {name!r}; allowed: each name once")
        for spec in _specs(self):
            self._require_other_hands(spec)

    def _require_other_hands(self, spec: DatasetSpec) -> None:
        """ConfigError if a dataset's artist paints its base set, too: pictures would leak."""
        hands = self.painter.sprites.hands if self.painter.sprites else ()
        if any(HANDS[hand].artist == spec.artist for hand in hands):
            raise ConfigError(
                f"painter.sprites.hands: {list(hands)}, and {spec.artist} draws the dataset "
                f"{spec.name}; allowed: hands of others"
            )


class World(NamedTuple):
    """What was made; datasets and features in the order of the configuration."""

    datasets: list[Artifact]
    base_set: Artifact
    teacher: Artifact
    features: list[Artifact]


def world(storage: str, cfg: WorldConfig) -> World:
    """Makes what is not there yet. storage: root of runs and artifacts, a local path or a URI."""
    datasets = [dataset(DatasetConfig(storage=storage, **vars(spec))) for spec in _specs(cfg)]
    targets = [artifact.uri for artifact in datasets]
    clip = backbone(cfg.encoder.backbone)
    try:
        require_teachable(clip, cfg.pretrainer)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    _require_readable_names(targets, clip)
    classes = factors(FactorsConfig(storage=storage, datasets=targets, **vars(cfg.factors)))
    most = classes.manifest.rows["classes"] * cfg.writer.per_class
    require_batch(cfg.pretrainer, most, cfg.pool.workers)
    base_set = synthesize(
        SynthesizeConfig(
            storage=storage, factors=classes.uri, writer=cfg.writer, painter=cfg.painter
        )
    )
    teacher = pretrain(
        PretrainConfig(
            storage=storage,
            base_set=base_set.uri,
            backbone=cfg.encoder.backbone,
            pool=cfg.pool,
            save_every=cfg.save_every,
            probe=ProbeConfig(datasets=targets, every=cfg.save_every),
            pretrainer=cfg.pretrainer,
        )
    )
    features = encode(
        EncodeConfig(
            storage=storage,
            datasets=targets,
            base_set=base_set.uri,
            encoder=cfg.encoder,
            select=cfg.select,
            pool=cfg.pool,
        )
    )
    return World(datasets, base_set, teacher, features)


def _require_readable_names(datasets: list[str], clip: Clip) -> None:
    """ConfigError if a class name is longer than CLIP reads, before its captions are written."""
    for dataset_uri in datasets:
        target = open_dataset(dataset_uri)
        names = [concept.name for concept in target.concepts]
        if any(len(name.encode()) > SHORT for name in names):
            require_names(clip, f"dataset {target.name}", names)


def _specs(cfg: WorldConfig) -> list[DatasetSpec]:
    """The datasets, each as what `jobs.dataset` takes."""
    return [DatasetSpec(name=d) if isinstance(d, str) else d for d in cfg.datasets]


def with_world(cfg: Config) -> Config:
    """The configuration of a job with the artifacts of its `world` in it, made if they are missing.

    cfg: has `storage`, `world` and those of INPUTS that its job reads. Raises ConfigError if
    artifacts are given beside a world, or neither.
    """
    job: Any = cfg
    inputs = [name for name in INPUTS if hasattr(cfg, name)]
    if job.world is None:
        if not (job.datasets and job.features):
            raise ConfigError("datasets: none; allowed: artifacts with their features, or a world")
        return cfg
    for name in inputs:
        if getattr(cfg, name):
            raise ConfigError(f"{name}: given together with world; allowed: one of them")
    artifacts = world(job.storage, job.world)
    uris = {
        "datasets": [dataset.uri for dataset in artifacts.datasets],
        "features": [features.uri for features in artifacts.features],
        "teacher": artifacts.teacher.uri,
        "base_set": artifacts.base_set.uri,
    }
    return dataclasses.replace(job, world=None, **{name: uris[name] for name in inputs})


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldJob(WorldConfig):
    """The same, and where it goes."""

    storage: str
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""


def main(cfg: WorldJob) -> None:
    """Prints a JSON line for each artifact."""
    artifacts = world(cfg.storage, cfg)
    for artifact in (*artifacts.datasets, artifacts.base_set, artifacts.teacher):
        show_made(artifact)
    for artifact in artifacts.features:
        show_made(artifact)


if __name__ == "__main__":
    run_job(WorldJob, main)
