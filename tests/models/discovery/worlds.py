"""Problems with known answers: classes around directions of their own."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from models.discovery.problem import Problem
from tests.models.methods.tasks import tiny_clip

KNOWN = ["cat", "dog", "ant"]
NEW = ["okapi", "quokka", "kinkajou"]
OTHERS = ["violin", "anvil", "teapot", "glacier"]
"""Candidates that no image shows."""
NAMES = [*KNOWN, *NEW]
PER_CLASS = {"unlabelled": 12, "labelled": 4, "val": 4}


def centres(count: int) -> Tensor:
    """(count, D) unit vectors, far from each other."""
    generator = torch.Generator().manual_seed(5)
    square = torch.randn(16, 16, generator=generator)
    return torch.linalg.qr(square).Q[:count]


def images(label: int, count: int, seed: int, noise: float = 0.1, views: int = 2) -> Tensor:
    """(views, count, T, D) tokens of a name of NAMES + OTHERS."""
    generator = torch.Generator().manual_seed(100 * label + seed)
    tokens = torch.randn(views, count, 3, 16, generator=generator) * noise
    return tokens + centres(len(NAMES + OTHERS))[label]


def problem(
    known: bool = True, imagined: bool = True, noise: float = 0.1
) -> tuple[Problem, Tensor]:
    """A problem, and the true labels (U,) into NAMES of its unlabelled images."""
    known_labels = range(len(KNOWN)) if known else range(0)
    unlabelled = [images(c, PER_CLASS["unlabelled"], 1, noise) for c in range(len(NAMES))]
    labelled = [images(c, PER_CLASS["labelled"], 2, noise) for c in known_labels]
    val = [images(c, PER_CLASS["val"], 3, noise, views=1)[0] for c in known_labels]
    tokens = torch.cat([*unlabelled, *labelled], dim=1)
    truth = torch.arange(len(NAMES)).repeat_interleave(PER_CLASS["unlabelled"])
    order = torch.randperm(len(truth), generator=torch.Generator().manual_seed(0))
    candidates = sorted(NAMES + OTHERS)
    world = Problem(
        dataset="animals",
        hint="animal",
        template="a photo of a {}, a type of animal.",
        clip=tiny_clip(),
        tokens=tokens.half(),
        unlabelled=order,
        labelled=torch.arange(len(truth), tokens.shape[1]),
        labels=torch.tensor(known_labels, dtype=torch.int64).repeat_interleave(4),
        val=torch.cat(val) if val else torch.empty(0, 3, 16),
        val_labels=torch.tensor(known_labels, dtype=torch.int64).repeat_interleave(4),
        known_names=KNOWN if known else [],
        candidates=candidates,
        imagined={
            name: normalize(images(label, 5, 4, noise, views=1)[0, :, 0], dim=-1)
            for label, name in enumerate(NAMES + OTHERS)
        }
        if imagined
        else {},
    )
    return world, truth[order]
