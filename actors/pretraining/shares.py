"""A worker's share of every step's batch, drawn from (seed, step) alone."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from actors.pictures.base_set import BaseSet
from actors.pretraining.config import PretrainerConfig
from models.block_masks import draw_masks
from models.clip import Clip
from models.moment_adapter import draw_drop_path
from models.views import NUMBERS, make_views

AHEAD = 2
"""Steps whose images are read and decoded while one is computed."""


@dataclass(frozen=True)
class Worker:
    """Which of the workers this is, and where it computes."""

    rank: int
    count: int
    device: torch.device


@dataclass(frozen=True)
class Share:
    """What one worker computes of a step: b of the batch's captions, in 2 + L views each."""

    crops: Tensor
    """Views of the captions' images, (2b, 3, R, R), normalised."""
    masks: Tensor
    """(2b, N) bool, True where a patch of a crop is masked."""
    drop_path: Tensor
    """Factors (depth, 2, (2 + L)·b) of the branches, see `models.moment_adapter.draw_drop_path`."""
    local: Tensor | None
    """Local views, (L·b, 3, r, r), normalised; None if there are none."""
    weight: float
    """b over the mean of all workers, by which this worker's mean counts in that of the batch."""


@functools.lru_cache(maxsize=2)  # the next epoch's are read ahead
def epoch_rows(seed: int, epoch: int, rows: int, batch_size: int) -> np.ndarray:
    """Row numbers of one epoch, (steps, batch_size): no row twice, the remainder dropped.

    Raises ValueError if there are fewer rows than one batch.
    """
    if rows < batch_size:
        raise ValueError(f"batch_size: {batch_size}; allowed is at most {rows}, the captions")
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    return order[: rows // batch_size * batch_size].reshape(-1, batch_size)


def draw_share(
    cfg: PretrainerConfig, data: BaseSet, backbone: Clip, worker: Worker, step: int
) -> Share:
    """This worker's share of a step: every count-th caption from its rank on.

    Everything is drawn for the whole batch from (seed, step), or per caption from (seed, epoch),
    and then shared out, so a step is the same on any number of workers and after a crash. The
    images of the next steps are read and decoded meanwhile.
    """
    per_epoch = len(data) // cfg.batch_size
    epoch, place = divmod(step, per_epoch)
    mine, views = slice(worker.rank, None, worker.count), 2 + cfg.local.count
    for later in range(step, min(step + 1 + AHEAD, cfg.epochs * per_epoch)):
        data.ask(*_captions(cfg, data, worker, later), (views, NUMBERS))
    rows, stream = _captions(cfg, data, worker, step)
    pixels, uniform = data.draw(rows, stream, (views, NUMBERS))
    images = torch.from_numpy(pixels).to(worker.device)
    numbers = torch.from_numpy(uniform).to(worker.device)
    size, local_views = backbone.image_size, cfg.local.views(cfg.views)
    whole = [make_views(images[v], numbers[v], v, size, cfg.views) for v in (0, 1)]
    local = [
        make_views(images[v % 2], numbers[v], v % 2, cfg.local.size, local_views)
        for v in range(2, views)
    ]
    rng = np.random.default_rng([cfg.seed, epoch, place + 1])
    masks = draw_masks(2 * cfg.batch_size, backbone.grid, cfg.masked_share, cfg.mask_ratio, rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    drop_path = draw_drop_path(views * cfg.batch_size, cfg.model.adapter, generator)
    return Share(
        crops=backbone.normalise(torch.cat(whole)),
        masks=torch.from_numpy(masks)
        .unflatten(0, (2, -1))[:, mine]
        .flatten(0, 1)
        .to(worker.device),
        drop_path=drop_path.unflatten(2, (views, -1))[..., mine].flatten(2).to(worker.device),
        local=backbone.normalise(torch.cat(local)) if local else None,
        weight=len(rows) * worker.count / cfg.batch_size,
    )


def _captions(
    cfg: PretrainerConfig, data: BaseSet, worker: Worker, step: int
) -> tuple[np.ndarray, str]:
    """The worker's captions of a step, and the name of the occasion."""
    epoch, place = divmod(step, len(data) // cfg.batch_size)
    rows = epoch_rows(cfg.seed, epoch, len(data), cfg.batch_size)[place]
    return rows[worker.rank :: worker.count], f"{cfg.seed}/{epoch}"
