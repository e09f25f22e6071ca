"""One training as the original search runs it, a process of its own, for `jobs.bench search`:

    python -m jobs.bench.search.original --dataset … --base_set … --lr 1e-4 --epochs 10

In every step the images are decoded, augmented and passed through the frozen backbone; every fusion
weight is tried by a pass over all validation images, until the first drop. The arithmetic (image
tower, adapter, precision, augmentation) is this project's own in both searches.
Source: ImagineFSL (Yang et al., 2025), its tuning script and fine-tuning loop.
"""

import dataclasses
import json
import time

import numpy as np
import torch
from jsonargparse import auto_cli
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import cross_entropy

from actors.features.encoder import AUGMENTATION, clean_view, view_tokens
from actors.pictures.base_set import open_base_set_rows
from actors.pictures.codec import decode_rgb, resized_square
from cluster.catalog.dataset import Dataset, open_dataset
from cluster.catalog.splits import draw_shots
from cluster.job import OneLineParser
from kernels.fusion import fuse
from models.backbones import load_clip
from models.clip import Clip
from models.methods.batches import endless_batches
from models.methods.imagine_model import ImagineModel
from models.moment_adapter import AdapterConfig
from models.schedules import cosine
from models.text_classifier import templates, text_classifier
from models.views import NUMBERS, ViewConfig, make_views

BATCH = 64
"""Real images in a step, and imagined ones."""
REAL_WEIGHT = 0.8
WEIGHT_DECAY = 1e-4
VISUAL_FACTOR, TEXT_FACTOR = 10.0, 0.2
"""Learning rates of the heads over the adapter's."""
FUSION_STEP = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """One configuration of the original's grid, for one cell."""

    dataset: str
    """Artifact of kind "dataset"."""
    base_set: str
    """Artifact of kind "images"; those of the dataset's classes are trained on."""
    shots: PositiveInt
    seed: NonNegativeInt = 0
    lr: PositiveFloat
    """AdamW learning rate of adapter and temperature, cosine to 0."""
    epochs: PositiveInt
    """Passes over the imagined images."""
    backbone: str = "tiny"
    adapter: AdapterConfig
    augmentation: ViewConfig = AUGMENTATION


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Encoded images and their labels (N,) int64."""

    images: list[bytes]
    labels: Tensor


@dataclasses.dataclass
class Original:
    """A training's model, and what it costs."""

    clip: Clip
    model: ImagineModel
    forwards: int = 0
    """Images that have passed the backbone."""

    def train(self, run: Training, sources: tuple[Labelled, Labelled]) -> None:
        """Trains the model. sources: real and imagined images, a batch of each per step."""
        generator = torch.Generator().manual_seed(run.seed)
        streams = [endless_batches(len(s.images), BATCH, generator) for s in sources]
        shares = [REAL_WEIGHT, 1 - REAL_WEIGHT]
        steps = run.epochs * -(-max(len(s.images) for s in sources) // BATCH)
        model = self.model
        groups = [
            {"params": [*model.adapter.parameters(), model.log_temperature], "lr": run.lr},
            {"params": model.visual_head.parameters(), "lr": VISUAL_FACTOR * run.lr},
            {"params": model.text_head.parameters(), "lr": TEXT_FACTOR * run.lr},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: cosine(1.0, 0.0, step, steps)
        )
        for _ in range(steps):
            rows = [next(stream) for stream in streams]
            drawn = [s.images[row] for s, r in zip(sources, rows, strict=True) for row in r]
            visual, text = model(self._tokens(self._augmented(drawn, run, generator)))
            labels = torch.cat([s.labels[r] for s, r in zip(sources, rows, strict=True)])
            parts = [
                share * (cross_entropy(v, target) + cross_entropy(t, target))
                for share, v, t, target in zip(
                    shares,
                    *(each.split([len(r) for r in rows]) for each in (visual, text, labels)),
                    strict=True,
                )
            ]
            optimizer.zero_grad()
            torch.stack(parts).sum().backward()
            optimizer.step()
            schedule.step()
            model.clamp_temperature()

    @torch.no_grad()
    def validate(self, val: Labelled) -> tuple[float, int]:
        """Accuracy of the best of the three heads, in [0, 1], and passes over val."""
        best, passes = 0.0, 0
        for weight in np.arange(0, 1 + FUSION_STEP / 2, FUSION_STEP).tolist():
            fused, visual, text = self._accuracies(val, weight)
            passes += 1
            if fused < best:
                break
            best = fused
        return max(best, visual, text), passes

    def _accuracies(self, val: Labelled, weight: float) -> tuple[float, float, float]:
        hits = torch.zeros(3)
        for start in range(0, len(val.images), BATCH):
            part = slice(start, start + BATCH)
            size = self.clip.image_size
            views = torch.stack([clean_view(decode_rgb(i), size) for i in val.images[part]])
            visual, text = self.model(self._tokens(views))
            for place, scores in enumerate(
                (fuse(visual, text, weight, rule="normalised"), visual, text)
            ):
                hits[place] += (scores.argmax(dim=1) == val.labels[part]).sum()
        fused, visual_only, text_only = (hits / len(val.images)).tolist()
        return fused, visual_only, text_only

    def _augmented(self, images: list[bytes], run: Training, generator: torch.Generator) -> Tensor:
        size = self.clip.image_size
        decoded = np.stack([resized_square(decode_rgb(image), size) for image in images])
        numbers = torch.rand(len(images), NUMBERS, generator=generator)
        pixels = torch.from_numpy(decoded).permute(0, 3, 1, 2)
        return make_views(pixels, numbers, 0, size, run.augmentation)

    def _tokens(self, views: Tensor) -> Tensor:
        self.forwards += len(views)
        return view_tokens(self.clip, views)


def labelled(dataset: Dataset, rows: tuple[str, ...]) -> Labelled:
    """Some images of a dataset."""
    ids, labels = (dataset.rows[name].to_pylist() for name in ("id", "label"))
    label = dict(zip(ids, labels, strict=True))
    return Labelled(dataset.images(rows), torch.tensor([label[row] for row in rows]))


def imagined(dataset: Dataset, base_set: str) -> Labelled:
    """The base set's images of a dataset's classes."""
    label = {concept.name: place for place, concept in enumerate(dataset.concepts)}
    rows = open_base_set_rows(base_set).good(["dataset", "class_name"])
    ours = [row for row in rows if row["dataset"] == dataset.name]
    labels = torch.tensor([label[row["class_name"]] for row in ours])
    return Labelled([row["image"] for row in ours], labels)


def training(run: Training) -> dict[str, float]:
    """Trains and validates one configuration.

    Returns val_accuracy in [0, 1]; forwards in images; passes over val; seconds of the two phases.
    """
    dataset, clip = open_dataset(run.dataset), load_clip(run.backbone)
    split = draw_shots(dataset, run.shots, run.seed, "min", "all")
    names = [concept.name for concept in dataset.concepts]
    torch.manual_seed(run.seed)
    model = ImagineModel(clip.embed_dim, len(names), run.adapter, "auto")
    with torch.no_grad():
        text = text_classifier(clip, names, templates("hand", dataset.template))
        model.text_head.weight.copy_(text)
        model.log_temperature.fill_(clip.logit_scale).log_()
    original = Original(clip, model)
    sources = labelled(dataset, split.train_ids), imagined(dataset, run.base_set)
    started = time.monotonic()
    original.train(run, sources)
    trained = time.monotonic()
    accuracy, passes = original.validate(labelled(dataset, split.val_ids))
    return {
        "val_accuracy": accuracy,
        "forwards": original.forwards,
        "passes": passes,
        "train_seconds": trained - started,
        "val_seconds": time.monotonic() - trained,
    }


if __name__ == "__main__":
    print(json.dumps(training(auto_cli(Training, as_positional=False, parser_class=OneLineParser))))
