"""What imagined images say of a dataset's classes, for `python -m jobs.bench worth`."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from actors.search.measures import Answers, accuracy
from cluster.catalog.dataset import Concept
from cluster.errors import ConfigError
from models.methods.adapted import class_tokens
from models.methods.imagine_model import ImagineModel
from models.moment_adapter import AdapterConfig
from models.task import Features

BATCH, LR = 64, 1e-3
"""Of the training with labels; the values of jobs/recipes/parts/tiny_pretrainer.yaml."""


def found_by_means(known: Features, test: Features, concepts: Sequence[Concept]) -> float:
    """Share of the test images of IP classes whose nearest class mean is that of their own class.

    known: images of all these classes, all of which are chosen from. Of both the clean views count;
    means and images are CLIP's class tokens of unit norm, compared by cosine. Raises ConfigError if
    a class has no known image.
    """
    is_ip = torch.tensor([concept.group == "IP" for concept in concepts])[test.labels]
    logits = class_tokens(test.without_patches[0])[is_ip] @ _class_means(known, concepts).T
    return accuracy(Answers(logits, test.labels[is_ip]))


def _class_means(known: Features, concepts: Sequence[Concept]) -> Tensor:
    """(C, D), unit-norm rows."""
    counts = known.labels.bincount(minlength=len(concepts)).tolist()
    for concept, count in zip(concepts, counts, strict=True):
        if not count:
            raise ConfigError(
                f"features: they hold no image of class {concept.name!r} to take a mean of; "
                "allowed: imagined and training images of every class"
            )
    tokens = class_tokens(known.without_patches[0])
    sums = torch.zeros(len(concepts), tokens.shape[1]).index_add_(0, known.labels, tokens)
    return normalize(sums, dim=-1)


def trained_with_labels(
    imagined: Sequence[Features], adapter: AdapterConfig, epochs: int
) -> ImagineModel:
    """An adapter and a linear head on its moments that have learned to name imagined images.

    imagined: of one dataset each, whose classes are numbered on from those before it; every view is
    an image. Cross-entropy of the visual head, the text head is not used; AdamW, cosine to 0.
    Raises ConfigError if there is no image.
    """
    images, classes = _numbered(imagined)
    loader = DataLoader(images, BATCH, shuffle=True, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ImagineModel(imagined[0].stored.shape[-1], classes, adapter, "auto")
    tokens, labels = next(iter(loader))
    model.start_on(model.pool_all(tokens), labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    schedule = CosineAnnealingLR(optimizer, epochs * len(loader))
    for tokens, labels in (batch for _ in range(epochs) for batch in loader):
        optimizer.zero_grad()
        visual, _ = model(tokens)
        cross_entropy(visual, labels).backward()
        optimizer.step()
        schedule.step()
    return model


class _Views(Dataset[tuple[Tensor, Tensor]]):
    """Every view of every image, and the number of its class."""

    def __init__(self, features: Features, first_class: int) -> None:
        self.features = features
        self.labels = first_class + features.labels.repeat(features.view_count)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.features.views(torch.tensor([number]))[0], self.labels[number]


def _numbered(imagined: Sequence[Features]) -> tuple[ConcatDataset[tuple[Tensor, Tensor]], int]:
    """All images of all parts, read from where they lie, and the number of classes."""
    parts: list[_Views] = []
    classes = 0
    for features in imagined:
        if not len(features):
            raise ConfigError("features: one has no imagined images; allowed: all with some")
        parts.append(_Views(features, classes))
        classes = int(parts[-1].labels.max()) + 1
    return ConcatDataset(parts), classes
