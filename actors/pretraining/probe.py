"""How well the teacher's features tell pictures of known classes apart while it is trained, beside
CLIP's raw tokens and a random adapter."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

from actors.pictures.base_set import BaseSetRows, open_base_set_rows
from actors.pictures.codec import BadImageError, decode_rgb, resized_square
from actors.pictures.encoded_pictures import rows_of_pictures
from actors.pretraining.config import PretrainerConfig
from actors.pretraining.state import Metrics
from cluster.catalog.dataset import Dataset, open_dataset
from cluster.errors import ConfigError
from kernels.moments import moments
from models.clip import Clip
from models.moment_adapter import MomentAdapter
from models.moment_dino import MomentDino
from models.precision import autocast

IMAGES_AT_ONCE = 64
CLASS = ("dataset", "class_name")
HELD_OUT = "held_out"
Features = Literal["teacher", "random", "raw"]
"""Moments of the teacher's tokens, of those of the adapter as it was drawn, and of CLIP's own."""
Classifier = Literal["ncm", "knn", "linear"]
"""The nearest class mean by cosine, nearest neighbours, and a logistic regression."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Pictures of known classes on which the teacher is tried; nothing is learned from them.

    Captions that are held out (`pretrainer.held_out`) are told apart by pictures of the others.
    """

    every: PositiveInt = 500
    """Steps between probes."""
    base_sets: list[str] = field(default_factory=list)
    """Artifacts of kind "images": other pictures of the same classes, as of another artist. They
    are told apart by pictures that are trained on."""
    datasets: list[str] = field(default_factory=list)
    """Artifacts of kind "dataset": their val split is told apart by their train split."""
    pictures: PositiveInt = 1024
    """Of a base set at most, to tell apart and to tell apart by."""
    per_class: PositiveInt = 16
    """Images of a class of a dataset at most, of train and of val."""
    neighbours: PositiveInt = 10
    """Nearest training images, by cosine, that vote for a class."""

    def tries_anything(self, pretrainer: PretrainerConfig) -> bool:
        """Whether there are pictures to tell apart."""
        return bool(pretrainer.held_out or self.base_sets or self.datasets)


def require_probe(config: ProbeConfig) -> None:
    """ConfigError if an artifact cannot be opened, two have one name, or a dataset lacks val."""
    names = [open_base_set_rows(uri).artifact.manifest.name for uri in config.base_sets]
    for uri in config.datasets:
        dataset = open_dataset(uri)
        names.append(dataset.name)
        if "val" not in dataset.rows["split"].unique().to_pylist():
            raise ConfigError(f"probe.datasets: {uri!r} has no val split; allowed: one that has")
    if twice := {name for name in names if [HELD_OUT, *names].count(name) > 1}:
        raise ConfigError(f"probe: two are called {min(twice)!r}; allowed: each name once")


def key(task: str, features: Features, classifier: Classifier) -> str:
    """The name of an accuracy in a row of metrics."""
    return f"{task}/{features}/{classifier}"


@dataclass(frozen=True)
class Pictures:
    """tokens: (N, 1 + P, D) float16 on the CPU. labels: (N,), of any kind."""

    tokens: Tensor
    labels: np.ndarray

    def of(self, labels: np.ndarray) -> "Pictures":
        """Those whose label is one of these."""
        known = np.isin(self.labels, labels)
        return Pictures(self.tokens[torch.from_numpy(known)], self.labels[known])


@dataclass(frozen=True)
class Task:
    """Pictures to tell apart, and those to tell them apart by."""

    train: Pictures
    test: Pictures


class Probe:
    """CLIP's tokens of all pictures, computed once, and what is told apart by moments of them."""

    def __init__(
        self,
        config: ProbeConfig,
        backbone: Clip,
        pretrainer: PretrainerConfig,
        base_set: BaseSetRows,
    ) -> None:
        self.config, self.pretrainer, self.clip = config, pretrainer, backbone
        self.device = backbone.mean.device
        self.tasks = dict(self._tasks(base_set))
        for name, task in self.tasks.items():
            _require_classes(name, task)
        self.adapter = MomentAdapter(backbone.embed_dim, pretrainer.model.adapter).to(self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(pretrainer.seed)  # as the run itself draws it
            start = MomentDino(backbone, pretrainer.model).student.state_dict()
        self.beside = self._accuracies("random", start) | self._accuracies("raw", None)

    def metrics(self, teacher: dict[str, Tensor]) -> Metrics:
        """Accuracies in [0, 1] by `key`, of all tasks, features and classifiers.

        teacher: the weights of a `Branch`.
        """
        return self._accuracies("teacher", teacher) | self.beside

    def _tasks(self, base_set: BaseSetRows) -> Iterator[tuple[str, Task]]:
        count = self.pretrainer.count_held_out(base_set.count_captions())
        others = [open_base_set_rows(uri) for uri in self.config.base_sets]
        if count or others:
            train = self._imagined(base_set, range(count, base_set.count_captions()))
        if count:
            test = self._imagined(base_set, range(count))
            yield HELD_OUT, Task(train, test.of(train.labels))
        for other in others:
            test = self._imagined(other, range(other.count_captions()))
            yield other.artifact.manifest.name, Task(train, test.of(train.labels))
        for uri in self.config.datasets:
            dataset = open_dataset(uri)
            split = {name: self._labelled(dataset, name) for name in ("train", "val")}
            yield dataset.name, Task(split["train"], split["val"])

    def _imagined(self, base_set: BaseSetRows, captions: range) -> Pictures:
        """Of the first of these captions the first view, then the second, and so on."""
        index, most = base_set.index, self.config.pictures
        first, after = captions.start, min(captions.stop, captions.start + most)
        starts = np.asarray(index.starts[first : after + 1])
        views = np.diff(starts)
        of_views = [starts[:-1][views > view] + view for view in range(max(views, default=0))]
        numbers = np.concatenate([starts[:0], *of_views])[:most]
        places = np.stack([index.file[numbers], index.place[numbers]])
        rows = rows_of_pictures(base_set.artifact, index, places, [*CLASS, "image"])
        labels = ["\0".join(row[name] for name in CLASS) for row in rows]
        return self._pictures([row["image"] for row in rows], labels)

    def _labelled(self, dataset: Dataset, split: str) -> Pictures:
        """The first `per_class` images of each class."""
        ids: dict[int, list[str]] = defaultdict(list)
        for row in dataset.rows.to_pylist():
            if row["split"] == split and len(ids[row["label"]]) < self.config.per_class:
                ids[row["label"]].append(row["id"])
        wanted = [(label, row) for label in sorted(ids) for row in ids[label]]
        images = dataset.images([row for _, row in wanted])
        return self._pictures(images, [label for label, _ in wanted])

    @torch.no_grad()
    def _pictures(self, images: Sequence[bytes], labels: Sequence[int | str]) -> Pictures:
        """Those that can be decoded."""
        tokens = [torch.empty(0, self.clip.num_tokens, self.clip.embed_dim, dtype=torch.half)]
        readable: list[int | str] = []
        for start in range(0, len(images), IMAGES_AT_ONCE):
            pixels = []
            for place in range(start, min(start + IMAGES_AT_ONCE, len(images))):
                try:
                    picture = decode_rgb(images[place])
                except BadImageError:
                    continue
                pixels.append(resized_square(picture, *self.clip.square))
                readable.append(labels[place])
            if not pixels:
                continue
            batch = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).to(self.device)
            with autocast(self.device, self.pretrainer.precision):
                tokens.append(self.clip.encode_tokens(self.clip.normalise(batch)).half().cpu())
        return Pictures(torch.cat(tokens), np.array(readable))

    def _accuracies(self, features: Features, branch: dict[str, Tensor] | None) -> Metrics:
        """branch: the weights of a `Branch`; None for CLIP's own tokens."""
        if branch is not None:
            prefix = "adapter."
            adapter = {k.removeprefix(prefix): t for k, t in branch.items() if k.startswith(prefix)}
            self.adapter.load_state_dict(adapter)
        metrics: Metrics = {}
        for name, task in self.tasks.items():
            train, test = (
                self._moments(part.tokens, branch is not None) for part in (task.train, task.test)
            )
            scores = _scores(
                train, task.train.labels, test, task.test.labels, self.config.neighbours
            )
            metrics |= {key(name, features, classifier): s for classifier, s in scores.items()}
        return metrics

    @torch.no_grad()
    def _moments(self, tokens: Tensor, adapted: bool) -> np.ndarray:
        """(N, 4 D) float32."""
        with autocast(self.device, self.pretrainer.precision):
            parts = []
            for part in tokens.split(IMAGES_AT_ONCE):
                own = part.to(self.device).float()
                parts.append(moments(self.adapter(own) if adapted else own).cpu())
        return torch.cat(parts).numpy()


def _require_classes(name: str, task: Task) -> None:
    """ConfigError if nothing could be told apart."""
    classes, pictures = len(np.unique(task.train.labels)), len(task.test.labels)
    if classes < 2 or not pictures:
        raise ConfigError(
            f"probe: {name!r} has {pictures} pictures to tell apart, by {classes} classes; "
            "allowed: pictures of two classes that are known"
        )


def _scores(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    neighbours: int,
) -> dict[Classifier, float]:
    """Accuracies of (N, F) and (M, F) float32 features."""
    # Seconds of a job's start, which one without a probe need not wait for.
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    nearest = KNeighborsClassifier(min(neighbours, len(train)), weights="distance", metric="cosine")
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    return {
        "ncm": float((nearest_means(train, train_labels, test) == test_labels).mean()),
        "knn": float(nearest.fit(train, train_labels).score(test, test_labels)),
        "linear": float(linear.fit(train, train_labels).score(test, test_labels)),
    }


def nearest_means(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """(M,) the class whose mean, of features of unit norm, is nearest by cosine.

    train: (N, F), labels: (N,), test: (M, F).
    """
    units = normalize(torch.from_numpy(train), dim=1)
    classes, places = np.unique(labels, return_inverse=True)
    sums = units.new_zeros(len(classes), units.shape[1])
    sums.index_add_(0, torch.from_numpy(places), units)
    means = normalize(sums, dim=1)
    best = (normalize(torch.from_numpy(test), dim=1) @ means.T).argmax(dim=1)
    return np.asarray(classes[best.numpy()])
