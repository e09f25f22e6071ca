"""python -m jobs.shots --dataset runs/dataset/oxford_pets-… --folder shots --shots '[1, 16]'

Writes the drawn shots of a dataset, a file shot_K-seed_S.jsonl each, so that other programs learn
from the same images; `jobs.dataset --shots FOLDER` reads them again. Needs no Ray.
"""

import dataclasses
from pathlib import Path

from jsonargparse.typing import NonNegativeInt, PositiveInt

from cluster.catalog.dataset import open_dataset
from cluster.catalog.splits import ShotRule, ValPolicy, draw_shots
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.storage import resolve


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShotsConfig:
    """Which shots, and where their lists go."""

    dataset: str
    """Artifact of kind "dataset": a path or URI."""
    folder: str
    """A local folder; lists of the same shots and seed in it have to be the same."""
    shots: list[PositiveInt] = dataclasses.field(default_factory=lambda: [1, 2, 4, 8, 16])
    """Training images per class."""
    seeds: list[NonNegativeInt] = dataclasses.field(default_factory=lambda: [0, 1, 2])
    """A draw each."""
    shot_rule: ShotRule = "hash"
    """How they are drawn, as in `jobs.search`."""
    val_policy: ValPolicy = "min"
    """Validation images, as in `jobs.search`."""


def shots(cfg: ShotsConfig) -> None:
    """Prints each file with its hash, which results name as `split_hash`.

    Per line: id, label, class name, group, split, and the path in the source where there is one.
    ConfigError if a class has too few images, or another list is there already.
    """
    dataset, folder = open_dataset(cfg.dataset), Path(resolve(cfg.folder))
    draws = [
        draw_shots(dataset, count, seed, cfg.val_policy, "all", cfg.shot_rule)
        for count in cfg.shots
        for seed in cfg.seeds
    ]
    files = [folder / f"shot_{draw.shots}-seed_{draw.seed}.jsonl" for draw in draws]
    for file, draw in zip(files, draws, strict=True):
        if file.exists() and file.read_text() != draw.lines:
            raise ConfigError(f"folder: {str(file)!r} holds other shots; allowed: a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    for file, draw in zip(files, draws, strict=True):
        file.write_text(draw.lines)
        print(f"{file} {draw.hash}")


if __name__ == "__main__":
    run_job(ShotsConfig, shots)
