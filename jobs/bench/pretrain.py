"""`python -m jobs.bench pretrain`: our training step against the straightforward one, and views.

Each schedule runs in a process of its own, for its peak memory. They take turns, step by step, so
that other load on the machine meets all of them alike; times are medians.
"""

import dataclasses
import multiprocessing
import statistics
import tempfile
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from jsonargparse.typing import PositiveInt

from jobs.bench.feeding import b16_feeding, feeding
from jobs.bench.reading import reading
from jobs.bench.schedules import Schedule, Shapes, serve
from jobs.bench.views import views_per_second
from jobs.pretrain import PretrainConfig
from models.moment_dino import COMPONENTS, MomentDinoConfig
from models.precision import Precision
from models.views import ViewConfig

TINY_RECIPE = Path(__file__).parents[1] / "recipes" / "tiny.yaml"
RUNS: dict[str, tuple[Schedule, Precision]] = {
    "straightforward": ("straightforward", "fp32"),
    "fp32": ("ours", "fp32"),
    "bf16": ("ours", "bf16"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainBench:
    """One whole training step (forward, backward, clipping, AdamW, moving averages) against the
    straightforward schedule in float32, at ViT-B/16's shapes and at the tiny recipe; decoding and
    augmentation against PIL and torchvision; opening and reading base sets."""

    steps: PositiveInt = 5
    """Timed steps of each schedule, after one that is not timed."""
    captions: PositiveInt = 4
    """Captions in a batch at ViT-B/16's shapes, each in two views."""
    rows: list[PositiveInt] = dataclasses.field(default_factory=lambda: [1_000, 10_000])
    """Pictures of 64 x 64 in base sets that are opened and read; of those of 512 x 512, a tenth."""
    gpu: bool = False
    """Measure instead, on this machine's GPU, what training at the recipe of ViT-B/16 makes of
    encoded pictures, beside what the frozen tower alone allows; see `jobs.bench.feeding`."""


def pretraining(cfg: PretrainBench) -> dict[str, float]:
    """Ratios are the straightforward schedule's over ours: above 1, ours is faster or smaller.

    Differences are relative: the largest of the three losses', and for each component the norm of
    the gradients' difference over the gradient's norm. The adapter's is the largest: the cube root
    of the third moment is steep where that is near 0.
    """
    if cfg.gpu:
        return feeding(b16_feeding())
    recipe = auto_cli(PretrainConfig, args=["--config", str(TINY_RECIPE)], as_positional=False)
    tiny = recipe.pretrainer
    shapes = {
        "b16": Shapes("ViT-B/16", MomentDinoConfig(), cfg.captions),
        "tiny": Shapes("tiny", tiny.model, tiny.batch_size),
    }
    figures: dict[str, float] = {}
    for name, shape in shapes.items():
        figures |= {f"{name}_{k}": v for k, v in _compared(shape, cfg.steps).items()}
    views = {"512_to_224": (512, 224, ViewConfig()), "64_to_64": (64, 64, tiny.views)}
    for name, (pixels, size, config) in views.items():
        figures |= {f"{name}_{k}": v for k, v in views_per_second(pixels, size, config).items()}
    for size, rows in ((64, cfg.rows), (512, [count // 10 for count in cfg.rows])):
        figures |= {f"{size}_pixels_{k}": v for k, v in reading(rows, size).items()}
    return figures


@dataclasses.dataclass
class _Run:
    """A schedule in its own process, and what it said."""

    process: SpawnProcess
    pipe: Connection
    first: Path
    seconds: list[float]


def _compared(shapes: Shapes, steps: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            name: _start(shapes, schedule, precision, Path(folder, name))
            for name, (schedule, precision) in RUNS.items()
        }
        for _ in range(steps + 1):
            for run in runs.values():
                run.pipe.send(True)
                run.seconds.append(run.pipe.recv())
        peaks = {}
        for name, run in runs.items():
            run.pipe.send(False)
            peaks[name] = run.pipe.recv()
            run.process.join()
        first = {name: torch.load(run.first, weights_only=True) for name, run in runs.items()}
    median = {name: statistics.median(run.seconds[1:]) for name, run in runs.items()}
    figures = {f"{name}_seconds": seconds for name, seconds in median.items()}
    figures |= {f"{name}_peak_mb": peak / 1e6 for name, peak in peaks.items()}
    for name in ("fp32", "bf16"):
        figures |= {
            f"{name}_time_ratio": median["straightforward"] / median[name],
            f"{name}_memory_ratio": peaks["straightforward"] / peaks[name],
        }
        figures |= {
            f"{name}_{what}_difference": value
            for what, value in _differences(first[name], first["straightforward"]).items()
        }
    return figures


def _start(shapes: Shapes, schedule: Schedule, precision: Precision, first: Path) -> _Run:
    """Returns when the process has done its first step, so that no two compute at a time."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(
        target=serve, args=(there, shapes, schedule, precision, first), daemon=True
    )
    process.start()
    there.close()  # so that a process that dies is an end of file here
    here.recv()
    return _Run(process, here, first, [])


def _differences(got: dict[str, Any], expected: dict[str, Any]) -> dict[str, float]:
    losses = (got["losses"] - expected["losses"]).abs() / expected["losses"].abs()
    figures = {"losses": float(losses.max())}
    for part in COMPONENTS:
        apart, whole = (
            torch.cat([gradient.flatten() for gradient in gradients])
            for gradients in (
                [a - b for a, b in zip(got[part], expected[part], strict=True)],
                expected[part],
            )
        )
        figures[f"{part}_gradient"] = float(apart.norm() / whole.norm())
    return figures
