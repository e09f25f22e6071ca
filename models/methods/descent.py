"""The training loop of methods on cached class tokens: batches of shots, each in a random view."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from models.methods.adapted import Watch, val_metrics
from models.methods.batches import endless_batches
from models.methods.selection import Selection
from models.schedules import cosine
from models.task import Features

EVALUATIONS = 4
WARM_UP_LR = 1e-5


class ShotBatches:
    """Endless batches of a split's class tokens; every image comes in one of its views, at random.

    labels: (N,) int64 of all images. epoch: steps of an epoch. Raises ValueError if there are no
    images.
    """

    def __init__(
        self,
        features: Features,
        batch: int,
        generator: torch.Generator,
        *,
        drop_last: bool = True,
    ) -> None:
        """drop_last: whether an epoch has no step for a last batch that is not full, unless it is
        the only one: so counts Dassl, by which most of these methods were published."""
        self.labels = features.labels
        full, rest = divmod(len(features), batch)
        self.epoch = max(1, full) if drop_last else full + (rest > 0)
        self._images = features.without_patches[:, :, 0].to(features.labels.device).float()
        self._rows = endless_batches(len(features), batch, generator)
        self._generator = generator

    def next(self) -> tuple[Tensor, Tensor]:
        """CLIP's features (B, D) float32, not normalised, and which images (B,) int64 they are."""
        rows = next(self._rows)
        views = torch.randint(len(self._images), (len(rows),), generator=self._generator)
        return self._images[views, rows], rows


def descend(
    optimizer: Optimizer,
    losses: Callable[[], Iterable[Tensor]],
    steps: int,
    warm_up: int,
    watch: Watch | None,
    select: Callable[[], Selection],
) -> None:
    """`steps` steps of the optimizer; its learning rates go to 0 by a cosine.

    losses: called once a step, the parts whose sum is the batch's loss; each part's graph is freed
    before the next one is asked for. warm_up: first steps, at WARM_UP_LR. select: what val says,
    asked at each of EVALUATIONS points. Source of the warm-up: CoOp (Zhou et al., 2022).
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(steps):
        for group, lr in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = lr_at(lr, step, steps, warm_up)
        optimizer.zero_grad()
        loss = torch.zeros(())
        for part in losses():
            part.backward()
            loss = loss + part.detach()
        optimizer.step()
        if watch is not None and is_evaluated(step, steps):
            watch({"step": step + 1, "loss": loss.item(), **val_metrics(select())})


def lr_at(lr: float, step: int, steps: int, warm_up: int) -> float:
    """Learning rate at a step of a run: WARM_UP_LR in the warm-up, then a cosine from `lr` to 0."""
    return WARM_UP_LR if step < warm_up else cosine(lr, 0.0, step, steps)


def is_evaluated(step: int, steps: int, evaluations: int = EVALUATIONS) -> bool:
    """Whether val is asked after this step of a run."""
    return (step + 1) % max(1, steps // evaluations) == 0
