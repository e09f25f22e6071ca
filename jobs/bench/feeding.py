"""`python -m jobs.bench pretrain --gpu true`: how fast a GPU trains on encoded pictures.

The loop of `jobs.pretrain` in one process without Ray, on base sets that are written for it and on
a ViT-B/16 with random weights, beside what bounds it: the passes through the frozen tower, and the
cores that read and decode.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jsonargparse import auto_cli

from actors.pictures.base_set import BaseSet, BaseSetRows, open_base_set, open_base_set_rows
from actors.pretraining.config import PretrainerConfig
from actors.pretraining.loop import Calls, pretrain
from actors.pretraining.shares import Worker
from actors.pretraining.state import Metrics, TrainState
from actors.pretraining.worker import THREADS_PER_CPU
from cluster.errors import ConfigError
from jobs.bench.apart import apart
from jobs.bench.reading import KEPT_BYTES, write_base_set
from jobs.bench.schedules import VIT_B16
from jobs.pretrain import PretrainConfig
from models.backbones import TINY, load_clip
from models.block_masks import draw_masks
from models.building import clip_from_config
from models.clip import Clip
from models.precision import autocast
from models.views import NUMBERS

B16_RECIPE = Path(__file__).parents[1] / "recipes" / "clip_b16.yaml"
TARGET_VIEWS = 1890
"""Views a second of the fastest run of that recipe on one H100."""
ROWS_SETTLING = 2
"""Rows of metrics that do not count: buffers grow, and kernels are compiled."""
TOWER_REPEATS = 5


@dataclass(frozen=True)
class Feeding:
    """What is trained on what, and where."""

    pretrainer: PretrainerConfig
    backbone: Literal["ViT-B/16", "tiny"]
    device: str
    rows: int
    """Pictures of the base set, PNG."""
    pixels: int
    """On a side of a picture."""
    steps: int
    """Of each run; a row of metrics is of a tenth of them."""
    compiled: tuple[bool, ...]
    """Whether blocks are compiled, of each measurement."""


def b16_feeding() -> Feeding:
    """`jobs/recipes/clip_b16.yaml` on this machine's GPU. ConfigError if torch sees none."""
    if not torch.cuda.is_available():
        raise ConfigError("gpu: true, but torch sees no GPU; allowed: false")
    arguments = ["--config", str(B16_RECIPE)]
    recipe = auto_cli(PretrainConfig, args=arguments, as_positional=False)
    return Feeding(recipe.pretrainer, "ViT-B/16", "cuda", 1600, 512, 40, (False, True))


def feeding(shapes: Feeding) -> dict[str, float]:
    """Views a second of training from encoded pictures, from kept ones, and from one in memory.

    `tower`: of the passes through the frozen tower alone, the clean one over all views and forward
    and backward over the masked ones; `…_of_tower` are shares of it. `cores`: that read and decode
    for so many views. All in a process of its own, which empties no cache of this machine's.
    """
    with tempfile.TemporaryDirectory() as folder:
        uri = write_base_set(Path(folder), shapes.rows, shapes.pixels)
        return apart(_measured, shapes, uri, str(Path(folder, "cache")))


def _measured(shapes: Feeding, uri: str, cache: str) -> dict[str, float]:
    os.environ["XDG_CACHE_HOME"] = cache
    rows = open_base_set_rows(uri)
    figures = _per_core(rows)
    for compiled in shapes.compiled:
        name = "compiled" if compiled else "plain"
        backbone = _backbone(shapes)
        tower = _tower_views_per_second(shapes, backbone, compiled)
        figures[f"{name}_tower_views_per_second"] = tower
        for source in ("encoded", "kept", "memory"):
            data = _base_set(rows, source)
            speed = _trained_views_per_second(shapes, backbone, data, compiled)
            figures[f"{name}_{source}_views_per_second"] = speed
            figures[f"{name}_{source}_of_tower"] = speed / tower
            if source == "memory":
                figures[f"{name}_cores"] = speed / figures["encoded_images_per_core_second"]
    return figures


def _per_core(rows: BaseSetRows) -> dict[str, float]:
    """Images that one core reads and decodes a second, by the process's own time."""
    data, figures = open_base_set(rows, kept_bytes=KEPT_BYTES), {}
    for source in ("encoded", "kept"):
        if source == "kept":
            data.decode(range(int(data.starts[-1])))
        started = time.process_time()
        for row in range(len(data)):
            data.draw([row], source, (2, NUMBERS))
        speed = 2 * len(data) / (time.process_time() - started)
        figures[f"{source}_images_per_core_second"] = speed
        figures[f"{source}_cores_of_{TARGET_VIEWS}_views_per_second"] = TARGET_VIEWS / speed
    return figures


def _base_set(rows: BaseSetRows, source: str) -> BaseSet:
    """source: "encoded", every picture is decoded when it is drawn, from files that are in the
    page cache; "kept", all were decoded before; "memory", all are one picture."""
    threads, index = THREADS_PER_CPU * (os.cpu_count() or 1), rows.index
    kept_bytes = KEPT_BYTES if source == "kept" else 0  # a smaller bound empties the node's cache
    data = open_base_set(rows, threads=threads, kept_bytes=kept_bytes)
    if source == "kept":
        data.decode(range(int(data.starts[-1])))
    if source != "memory":
        return data
    (picture,) = data.decode([0])
    return BaseSet(
        index.captions, index.starts, data.size, lambda numbers: [picture] * len(numbers), threads
    )


def _backbone(shapes: Feeding) -> Clip:
    torch.manual_seed(0)
    clip = load_clip(TINY) if shapes.backbone == "tiny" else clip_from_config(VIT_B16)
    return clip.to(shapes.device)


def _tower_views_per_second(shapes: Feeding, backbone: Clip, compiled: bool) -> float:
    cfg, device, size = shapes.pretrainer, torch.device(shapes.device), backbone.image_size
    backbone.compile_blocks(compiled)
    crops = torch.rand(2 * cfg.batch_size, 3, size, size, device=device)
    drawn = draw_masks(
        len(crops), backbone.grid, cfg.masked_share, cfg.mask_ratio, np.random.default_rng(0)
    )
    masks = torch.from_numpy(drawn).to(device)
    rows = masks.any(dim=1).nonzero().squeeze(1)
    token = torch.zeros(1, backbone.vision_width, device=device, requires_grad=True)

    def passes() -> None:
        with autocast(device, cfg.precision):
            with torch.no_grad():
                backbone.encode_tokens(crops)
            hidden = backbone.encode_tokens(crops[rows], masks[rows], token)
        hidden.float().sum().backward()

    return len(crops) / _seconds(passes, device)


def _seconds(run: Callable[[], None], device: torch.device) -> float:
    """Median of a few calls, after one that does not count."""
    taken = []
    for _ in range(TOWER_REPEATS + 1):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def _trained_views_per_second(
    shapes: Feeding, backbone: Clip, data: BaseSet, compiled: bool
) -> float:
    """Median over rows of metrics, of which the first are left out."""
    recipe, speeds = shapes.pretrainer, list[float]()
    cfg = replace(
        recipe,
        epochs=-(-shapes.steps // (len(data) // recipe.batch_size)),
        log_every=max(1, shapes.steps // 10),
        compile=compiled,
    )

    def tell(_: TrainState, row: Metrics) -> None:
        if row:
            speeds.append(row["images_per_s"])

    calls = Calls(start=lambda state: [], save=lambda state, rows: None, save_every=0, tell=tell)
    pretrain(cfg, backbone, data, Worker(0, 1, torch.device(shapes.device)), calls)
    return statistics.median(speeds[ROWS_SETTLING:])
