"""A dataset as a frozen CLIP sees it, computed in this process when it is asked for."""

from collections.abc import Sequence
from typing import Literal

import psutil
import pyarrow.compute as pc
import torch

from actors.features.encoder import AUGMENTATION, Encoder, EncoderConfig
from actors.local.datasets import LocalDataset
from actors.pictures.codec import decode_rgb
from cluster.catalog.dataset import Dataset
from cluster.catalog.splits import Concepts, ValPolicy, draw_shots, labels_of
from cluster.errors import ConfigError
from models.clip import Clip
from models.precision import Precision
from models.task import Features, Task
from models.text_classifier import TemplateSet, zero_shot_classifier
from models.views import ViewConfig

SplitName = Literal["train", "val", "test"]
IMAGES_AT_ONCE = 256
BYTES_OF_TOKEN_VALUE = 2  # float16


class Encoded:
    """A dataset and the CLIP that sees it: tasks with drawn shots, and the tokens of a split.

    dataset: of `actors.local.datasets`, or an artifact of `jobs.dataset` that `open_dataset` has
    opened. views: of a training image, the clean one and views - 1 augmented ones. The defaults are
    those of `jobs.encode`, and tokens are the same.
    """

    def __init__(
        self,
        clip: Clip,
        dataset: LocalDataset | Dataset,
        *,
        views: int = 4,
        augmentation: ViewConfig = AUGMENTATION,
        precision: Precision = "auto",
    ) -> None:
        self.clip, self.dataset, self.views = clip, dataset, views
        config = EncoderConfig(
            backbone=clip.backbone, views=views, augmentation=augmentation, precision=precision
        )
        self._encoder = Encoder(config, str(clip.mean.device), clip)
        rows = dataset.rows
        self._label = dict(zip(rows["id"].to_pylist(), rows["label"].to_pylist(), strict=True))
        self._splits: dict[tuple[str, Concepts, int], Features] = {}

    def names(self, concepts: Concepts = "all") -> list[str]:
        """Class names in order of label."""
        return [self.dataset.concepts[label].name for label in labels_of(self.dataset, concepts)]

    def task(
        self,
        shots: int,
        seed: int = 0,
        *,
        concepts: Concepts = "all",
        val_policy: ValPolicy = "min",
        templates: TemplateSet = "hand",
    ) -> Task:
        """What a method learns from: the shots that `jobs.search` draws for the same seed.

        shots: training images per class, 0 for none. concepts: the classes that are learned.
        val_policy: validation images per class: none, min(shots, 4), or all. templates: prompts of
        the zero-shot classifier. Raises ConfigError if a class has too few images, or there is no
        such class.
        """
        names = self.names(concepts)
        if not names:
            raise ConfigError(
                f"concepts: {concepts!r}, but dataset {self.dataset.name!r} has no such class; "
                "allowed: all, or a group that it has"
            )
        drawn = draw_shots(self.dataset, shots, seed, val_policy, concepts) if shots else None
        prompts = self.dataset.prompts
        class_prompts = (
            tuple(prompts[i] for i in labels_of(self.dataset, concepts)) if prompts else ()
        )
        return Task(
            dataset=self.dataset.name,
            names=names,
            hint=self.dataset.hint,
            template=self.dataset.template,
            train=self._features(drawn.train_ids if drawn else (), concepts, self.views),
            val=self._features(drawn.val_ids, concepts, 1) if drawn and drawn.val_ids else None,
            imagined=None,
            clip=self.clip,
            text=zero_shot_classifier(
                self.clip, names, templates, self.dataset.template, class_prompts
            ),
            prompts=class_prompts,
        )

    def split(self, which: SplitName, concepts: Concepts = "all", views: int = 1) -> Features:
        """All images of a split that are of these classes, in order of id.

        views: of each image, the clean one first. Tokens stay in memory for the next call. Raises
        ConfigError if they need more than is free: larger sets are what `jobs.encode` is for.
        """
        if (which, concepts, views) not in self._splits:
            ids = self.ids(which, concepts)
            self._splits[which, concepts, views] = self._features(ids, concepts, views)
        return self._splits[which, concepts, views]

    def ids(self, which: SplitName, concepts: Concepts = "all") -> list[str]:
        """Row ids of a split, in the order of `split`."""
        labels = set(labels_of(self.dataset, concepts))
        here = self.dataset.rows.filter(pc.field("split") == which)["id"].to_pylist()
        return [row for row in here if self._label[row] in labels]

    def _features(self, ids: Sequence[str], concepts: Concepts, views: int) -> Features:
        shape = (len(ids), views, self.clip.num_tokens, self.clip.embed_dim)
        _require_memory(self.dataset.name, shape)
        tokens = torch.empty(shape, dtype=torch.half)
        for start in range(0, len(ids), IMAGES_AT_ONCE):
            part = ids[start : start + IMAGES_AT_ONCE]
            images = [decode_rgb(data) for data in self.dataset.images(part)]
            encoded = self._encoder.tokens(images, part, [views] * len(part))
            tokens[start : start + len(part)] = encoded.unflatten(0, (len(part), views))
        number = {label: i for i, label in enumerate(labels_of(self.dataset, concepts))}
        labels = torch.tensor([number[self._label[row]] for row in ids], dtype=torch.int64)
        device = self.clip.mean.device
        return Features(tokens.transpose(0, 1).to(device), labels.to(device), ("",) * len(ids))


def _require_memory(dataset: str, shape: tuple[int, ...]) -> None:
    needed = torch.Size(shape).numel() * BYTES_OF_TOKEN_VALUE
    free = psutil.virtual_memory().available
    if needed > free:
        raise ConfigError(
            f"dataset {dataset}: tokens of {shape[0]} images in {shape[1]} views take "
            f"{needed / 1e9:.3g} GB; allowed: at most {free / 1e9:.3g} GB, the free memory "
            "(jobs.encode writes them to disk)"
        )
