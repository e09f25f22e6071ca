"""`python -m jobs.bench discovery`: neighbours and Ward's linkage as images grow in number.

Time, memory, and what the approximate linkage costs in accuracy. Features are drawn around as many
directions as there are classes, float32, one thread. Times are the process's own CPU seconds, which
other load on the machine changes little; memory is what a process of its own held at most beyond
what it began with, the features among it.
"""

import dataclasses
import time

import numpy as np
import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor

from jobs.bench.apart import apart, peak
from kernels.mean_shift import unit
from kernels.neighbours import nearest, nearest_reference
from models.discovery.metrics import clustering_accuracy
from models.discovery.ward import WardTree

NEIGHBOURS = 8
PLANNED = 1_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscoveryBench:
    """Neighbours among all images and Ward's linkage, at growing numbers of images."""

    images: list[PositiveInt] = dataclasses.field(
        default_factory=lambda: [1_000, 3_000, 10_000, 30_000, 100_000]
    )
    """Numbers of images."""
    dim: PositiveInt = 128
    """Channels of a feature."""
    classes: PositiveInt = 100
    """Directions that features lie around."""
    ward_points: PositiveInt = 2000
    """Groups beyond which the linkage is approximate."""
    exact: PositiveInt = 10_000
    """Images up to which the exact linkage and the whole matrix of neighbours run, too."""
    neighbours: PositiveInt = 30_000
    """Images up to which neighbours are searched; the time of more grows with their square."""


def discovering(cfg: DiscoveryBench) -> dict[str, float]:
    """Figures by what is measured and the number of images; those of `PLANNED` are extrapolated:
    neighbours by N², grouping and memory by N, from the largest numbers that ran."""
    figures: dict[str, float] = {}
    for images in cfg.images:
        names = ["grouped"]
        if images <= cfg.neighbours:
            names.append("blocks")
        if images <= cfg.exact:
            names += ["exact", "whole"]
        for name in names:
            for what, value in apart(_measure, name, images, cfg).items():
                figures[f"{name}_{images}_{what}"] = value
    return figures | _planned(figures, cfg)


def _measure(name: str, images: int, cfg: DiscoveryBench) -> dict[str, float]:
    """One of: neighbours in blocks or of the whole matrix, linkage grouped or exact."""
    torch.set_num_threads(1)
    before = peak()
    features, labels = _features(images, cfg)
    started = time.process_time()
    if name in ("blocks", "whole"):
        find = nearest if name == "blocks" else nearest_reference
        find(features, features, NEIGHBOURS, torch.arange(images))
        scores = {}
    else:
        points = images if name == "exact" else cfg.ward_points
        tree = WardTree(features, points, seed=0)
        cut = tree.cut(cfg.classes).numpy()
        scores = {"accuracy": clustering_accuracy(cut, labels.numpy())}
    seconds = time.process_time() - started
    return {"seconds": seconds, "mebibytes": peak() - before} | scores


def _features(images: int, cfg: DiscoveryBench) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(cfg.classes, cfg.dim, generator=generator)
    labels = torch.randint(cfg.classes, (images,), generator=generator)
    features = torch.randn(images, cfg.dim, generator=generator)
    # in place, part by part: what is measured is not hidden behind the making of it
    for part, of_part in zip(features.split(1024), labels.split(1024), strict=True):
        part.copy_(unit(centres[of_part] + 2 * part))
    return features, labels


def _planned(figures: dict[str, float], cfg: DiscoveryBench) -> dict[str, float]:
    extrapolated: dict[str, float] = {}
    for name, power in (("blocks", 2), ("grouped", 1)):
        ran = [n for n in cfg.images if f"{name}_{n}_seconds" in figures]
        most = max(ran)
        seconds = figures[f"{name}_{most}_seconds"] * (PLANNED / most) ** power
        extrapolated[f"{name}_{PLANNED}_hours_extrapolated"] = seconds / 3600
        if len(ran) > 1:
            held = [figures[f"{name}_{n}_mebibytes"] for n in ran]
            slope = np.polyfit(ran, held, 1)[0]
            more = held[-1] + slope * (PLANNED - most)
            extrapolated[f"{name}_{PLANNED}_gibibytes_extrapolated"] = more / 1024
    return extrapolated
