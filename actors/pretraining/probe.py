"""How good the teacher's moments are for classifying labelled images, while it is trained."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor

from actors.pictures.codec import BadImageError, decode_rgb, resized_square
from actors.pretraining.config import PretrainerConfig
from actors.pretraining.state import Metrics
from cluster.catalog.dataset import Dataset, open_dataset
from kernels.moments import moments
from models.clip import Clip
from models.moment_adapter import MomentAdapter
from models.precision import autocast

IMAGES_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """A labelled dataset that the teacher is looked at with; nothing is learned from it."""

    dataset: str
    """Artifact of kind "dataset": its train split is classified with, its val split by it."""
    every: PositiveInt = 500
    """Steps between probes."""
    per_class: PositiveInt = 16
    """Images of a class at most, of train and of val."""
    neighbours: PositiveInt = 10
    """Nearest training images, by cosine, that vote for a class."""


class Probe:
    """CLIP's tokens of the labelled images, computed once, and two classifiers on their moments."""

    def __init__(self, config: ProbeConfig, backbone: Clip, pretrainer: PretrainerConfig) -> None:
        self.config, self.pretrainer = config, pretrainer
        self.device = backbone.mean.device
        dataset = open_dataset(config.dataset)
        self.train = self._tokens(dataset, "train", backbone)
        self.val = self._tokens(dataset, "val", backbone)
        self.adapter = MomentAdapter(backbone.embed_dim, pretrainer.model.adapter).to(self.device)

    def metrics(self, teacher: dict[str, Tensor]) -> Metrics:
        """Accuracies on val, in [0, 1], of nearest neighbours and of a logistic regression.

        teacher: the weights of a `Branch`.
        """
        # Seconds of a job's start, which one without a probe need not wait for.
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        prefix = "adapter."
        adapter = {k.removeprefix(prefix): t for k, t in teacher.items() if k.startswith(prefix)}
        self.adapter.load_state_dict(adapter)
        train, val = (self._moments(tokens) for tokens, _ in (self.train, self.val))
        neighbours = min(self.config.neighbours, len(train))
        nearest = KNeighborsClassifier(neighbours, weights="distance", metric="cosine")
        linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
        return {
            name: float(classifier.fit(train, self.train[1]).score(val, self.val[1]))
            for name, classifier in (("knn", nearest), ("linear_probe", linear))
        }

    @torch.no_grad()
    def _tokens(self, dataset: Dataset, split: str, clip: Clip) -> tuple[Tensor, np.ndarray]:
        """(N, 1 + P, D) float16 tokens on the CPU, and (N,) labels."""
        ids: dict[int, list[str]] = defaultdict(list)
        for row in dataset.rows.to_pylist():
            if row["split"] == split and len(ids[row["label"]]) < self.config.per_class:
                ids[row["label"]].append(row["id"])
        wanted = [(label, row) for label in sorted(ids) for row in ids[label]]
        tokens, labels = [], []
        for start in range(0, len(wanted), IMAGES_AT_ONCE):
            part = wanted[start : start + IMAGES_AT_ONCE]
            pixels = []
            for (label, _), data in zip(
                part, dataset.images([row for _, row in part]), strict=True
            ):
                try:
                    pixels.append(resized_square(decode_rgb(data), clip.image_size))
                except BadImageError:
                    continue
                labels.append(label)
            images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).to(self.device)
            with autocast(self.device, self.pretrainer.precision):
                tokens.append(clip.encode_tokens(clip.normalise(images)).half().cpu())
        return torch.cat(tokens), np.array(labels)

    @torch.no_grad()
    def _moments(self, tokens: Tensor) -> np.ndarray:
        """(N, 4 D) float32."""
        with autocast(self.device, self.pretrainer.precision):
            parts = [
                moments(self.adapter(part.to(self.device).float())).cpu()
                for part in tokens.split(IMAGES_AT_ONCE)
            ]
        return torch.cat(parts).numpy()
