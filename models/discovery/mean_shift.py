"""Contrastive mean-shift: features trained so that images move to their neighbours."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from kernels.mean_shift import decoupled_loss, mean_shift, supervised_contrastive_loss, unit
from kernels.neighbours import NeighbourIndex
from models.dino_head import DinoHead, HeadConfig
from models.discovery.problem import Problem
from models.moment_adapter import AdapterConfig, Block
from models.schedules import cosine

LAST_LR = 1e-3
"""Learning rate at the end of the cosine, relative to that at its start."""
IMAGES_AT_ONCE = 512
PATIENCE = 2

Watch = Callable[[dict[str, float]], None]
"""What is called after every epoch with `step` and `loss`."""


@dataclass(frozen=True, kw_only=True)
class MeanShiftHyper:
    """Contrastive mean-shift; the defaults are those of LAION-Beyond's script."""

    neighbours: PositiveInt = 8
    """Nearest images whose mean an image moves towards."""
    share: ClosedUnitInterval = 0.5
    """How far it moves: 1 is to the mean of its neighbours."""
    epochs: PositiveInt = 2
    """Passes of as many images as there are, labelled and unlabelled ones as often."""
    batch_size: PositiveInt = 128
    """Images a step, two views of each."""
    lr: PositiveFloat = 0.05
    """SGD's learning rate at the start; a cosine takes it to a thousandth."""
    momentum: NonNegativeFloat = 0.9
    weight_decay: NonNegativeFloat = 5e-5
    temperature: PositiveFloat = 0.25
    """Temperature of the unsupervised loss."""
    supervised_temperature: PositiveFloat = 0.07
    supervised_weight: ClosedUnitInterval = 0.35
    """Share of the supervised loss, the unsupervised one's is the rest; 0 without known images."""
    block: AdapterConfig = field(
        default_factory=lambda: AdapterConfig(depth=1, inner=512, heads=8, mlp_ratio=4.0)
    )
    """The trained block; of it `depth` and `drop_path` do not count."""
    head: HeadConfig = field(
        default_factory=lambda: HeadConfig(prototypes=768, hidden=2048, bottleneck=256)
    )
    """The projection head; `prototypes` is the size of a feature."""
    shifts: PositiveInt = 10
    """Iterations of the shift at inference, at most."""


class ShiftModel(nn.Module):
    """CLIP's tokens to features of unit norm: one block, then a projection of the class token.

    Deviation: the original trains CLIP's own last block and its layer norm. The features on disk
    are the tokens after them, so here CLIP stays whole, and a block of the same kind is trained
    behind it, which begins as the identity. The head's layers begin with deviations of
    1 / sqrt(inputs), DINO's 0.02 at its width of 2048: with 0.02 a narrow head's gradients explode.
    """

    def __init__(self, dim: int, hyper: MeanShiftHyper) -> None:
        super().__init__()
        self.block = Block(dim, hyper.block)
        for last in (self.block.attn.proj, self.block.mlp.fc2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.head = DinoHead(dim, hyper.head)
        for layer in self.head.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, D), anywhere, to (B, d), unit norm."""
        tokens = tokens.to(self.block.norm1.weight.device).float()
        return unit(self.head(self.block(tokens, None)[:, 0]))


def train_shift_model(
    problem: Problem, hyper: MeanShiftHyper, seed: int, watch: Watch | None = None
) -> ShiftModel:
    """Learns from the unlabelled images and the labelled known ones; val is not looked at.

    Each epoch begins with the features of two views of every image as memory, among which the
    batches' images find their neighbours. Loss: the decoupled one of shifted features of two views,
    and SupCon of the labelled images' features. The last step is kept.
    Source: CMS (Choi et al., 2024), as LAION-Beyond runs it. Raises ValueError for images with a
    single view.
    """
    views = len(problem.tokens)
    if views < 2:
        raise ValueError("clustering: contrastive mean-shift, but images have 1 view; allowed: 2")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ShiftModel(problem.tokens.shape[-1], hyper).to(problem.device)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.cat([problem.unlabelled, problem.labelled])
    known = torch.cat([torch.full_like(problem.unlabelled, -1), problem.labels])
    share = hyper.supervised_weight if len(problem.labelled) else 0.0
    optimizer = torch.optim.SGD(
        model.parameters(), hyper.lr, hyper.momentum, weight_decay=hyper.weight_decay
    )
    steps = hyper.epochs * -(-len(rows) // hyper.batch_size)
    step = 0
    for _ in range(hyper.epochs):
        pair = _two_views(views, len(rows), generator)
        views_of_all = torch.cat([embed(model, problem.tokens, rows, view) for view in pair])
        memory = NeighbourIndex(views_of_all)
        for batch in _batches(known, hyper.batch_size, generator):
            for group in optimizer.param_groups:
                group["lr"] = cosine(hyper.lr, LAST_LR * hyper.lr, step, steps)
            both = torch.stack([model(problem.tokens[view[batch], rows[batch]]) for view in pair])
            places = torch.cat([batch, batch + len(rows)]).to(both.device)
            shifted = mean_shift(both.flatten(0, 1), memory, hyper.neighbours, hyper.share, places)
            loss = (1 - share) * decoupled_loss(shifted.view_as(both), hyper.temperature)
            if share:
                labels = known[batch].to(both.device)
                is_labelled = labels >= 0
                loss = loss + share * supervised_contrastive_loss(
                    both[:, is_labelled], labels[is_labelled], hyper.supervised_temperature
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
        if watch is not None:
            watch({"step": step, "loss": loss.item()})
    return model.eval()


@torch.no_grad()
def embed(model: ShiftModel, tokens: Tensor, rows: Tensor, view: Tensor | None = None) -> Tensor:
    """(n, d) features of these rows of (V, N, T, D) tokens; view: (n,) int64, default the clean."""
    views = torch.zeros_like(rows) if view is None else view
    parts = zip(views.split(IMAGES_AT_ONCE), rows.split(IMAGES_AT_ONCE), strict=True)
    return torch.cat([model(tokens[v, r]) for v, r in parts])


def shifts(features: Tensor, hyper: MeanShiftHyper) -> Iterator[Tensor]:
    """Features (N, d) shifted 0, 1, 2 … times among themselves, without end."""
    places = torch.arange(len(features), device=features.device)
    while True:
        yield features
        features = mean_shift(
            features, NeighbourIndex(features), hyper.neighbours, hyper.share, places
        )


def _two_views(views: int, images: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two different views of each image, augmented ones where there are two of them."""
    first = 1 if views > 2 else 0
    one, other = torch.rand(images, views - first, generator=generator).topk(2, dim=1).indices.T
    return one + first, other + first


def _batches(known: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Places of one epoch, drawn with replacement, labelled and unlabelled ones as often."""
    is_labelled = known >= 0
    weights = torch.where(
        is_labelled, 1 / is_labelled.sum().clamp(min=1), 1 / (~is_labelled).sum().clamp(min=1)
    )
    places = torch.multinomial(weights, len(known), replacement=True, generator=generator)
    yield from (batch for batch in places.split(size) if len(batch) > 1)
