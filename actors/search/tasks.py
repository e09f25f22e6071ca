"""Tasks: what one cell learns from, put together from artifacts on the node where it runs."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from actors.features.encoder import backbone, require_names
from actors.features.store import FeatureStore
from actors.pictures.decoded import pictures
from actors.search.cells import Cell
from cluster.artifacts import Artifact, open_artifact
from cluster.catalog.dataset import Dataset, open_dataset
from cluster.catalog.splits import Concepts, ShotRule, Split, ValPolicy, draw_shots, labels_of
from cluster.errors import ConfigError
from cluster.storage import resolve
from models.clip import Clip
from models.methods import METHODS
from models.methods.needs import require_method
from models.moment_adapter import Teacher, load_teacher
from models.task import Features, Task
from models.text_classifier import TemplateSet, zero_shot_classifier

MARGIN = 8 / 7
"""Size of the pictures that are trained on over CLIP's input size: 256 pixels for 224."""


@dataclass(frozen=True)
class EncodedDataset:
    """A dataset and its features; everything but the test split is read when it is asked for."""

    dataset: Dataset
    store: FeatureStore

    def labels(self, concepts: Concepts) -> list[int]:
        """Labels of these classes, in order."""
        return labels_of(self.dataset, concepts)

    def names(self, concepts: Concepts) -> list[str]:
        return [self.dataset.concepts[label].name for label in self.labels(concepts)]

    def prompts(self, concepts: Concepts) -> tuple[tuple[str, ...], ...]:
        """Prompts of each of these classes; empty if the dataset came without any."""
        of_all = self.dataset.prompts
        return tuple(of_all[label] for label in self.labels(concepts)) if of_all else ()

    def of_concepts(self, features: Features, concepts: Concepts) -> Features:
        """Images of these classes, their labels counted among these classes alone.

        No token is copied.
        """
        labels = self.labels(concepts)
        if len(labels) == len(self.dataset.concepts):
            return features
        number = torch.full((len(self.dataset.concepts),), -1)
        number[labels] = torch.arange(len(labels))
        relabelled = number[features.labels]
        ours = features.of_images((relabelled >= 0).nonzero().squeeze(1))
        return replace(ours, labels=relabelled[relabelled >= 0])

    def ids(self, split: str, concepts: Concepts) -> list[str]:
        """Ids of the images of these classes, in the order of `of_concepts` on that split."""
        labels, ours = self.store.index[split]["label"].to_pylist(), set(self.labels(concepts))
        rows = zip(self.store.ids(split), labels, strict=True)
        return [row for row, label in rows if label in ours]


def pair(datasets: Iterable[str], features: Iterable[str]) -> dict[str, EncodedDataset]:
    """Datasets and the features made of them, by name, whatever the order they are given in.

    Raises ConfigError for a dataset without features, features without their dataset, features of
    different backbones, and two datasets of one name.
    """
    stores = {
        store.artifact.manifest.inputs["dataset"]: store for store in map(FeatureStore, features)
    }
    pairs: dict[str, EncodedDataset] = {}
    for dataset in map(open_dataset, datasets):
        store = stores.pop(dataset.artifact.manifest.content_hash, None)
        if store is None or dataset.name in pairs:
            raise ConfigError(
                f"features: none is left for dataset {dataset.artifact.uri!r}; "
                "allowed: one features artifact per dataset, made of it, and no name twice"
            )
        pairs[dataset.name] = EncodedDataset(dataset, store)
    if stores:
        left = next(iter(stores.values())).artifact.uri
        raise ConfigError(
            f"features: {left!r} belongs to no dataset; allowed: those of the datasets"
        )
    hashes = {e.store.artifact.manifest.extra["weights_hash"] for e in pairs.values()}
    if len(hashes) != 1:
        raise ConfigError(f"features: made by {len(hashes)} backbones; allowed: the same for all")
    return pairs


@dataclass(frozen=True)
class TaskSource:
    """Where tasks come from: URIs and settings alone, so that it can be sent to any node."""

    datasets: tuple[str, ...]
    features: tuple[str, ...]
    teacher: str | None
    val_policy: ValPolicy
    templates: TemplateSet
    shot_rule: ShotRule = "hash"
    base_set: str | None = None
    """Where the imagined images lie, for methods that read pictures."""


def task_source(
    datasets: Iterable[str],
    features: Iterable[str],
    *,
    val_policy: ValPolicy,
    templates: TemplateSet,
    teacher: str | None = None,
    shot_rule: ShotRule = "hash",
    base_set: str | None = None,
) -> TaskSource:
    """The source of a job's tasks; relative paths become absolute, for workers stand elsewhere."""
    return TaskSource(
        datasets=tuple(map(resolve, datasets)),
        features=tuple(map(resolve, features)),
        teacher=teacher and resolve(teacher),
        val_policy=val_policy,
        templates=templates,
        shot_rule=shot_rule,
        base_set=base_set and resolve(base_set),
    )


class Tasks:
    """Builds tasks; the CLIP, the teacher and the memory maps are opened once per process."""

    def __init__(self, source: TaskSource) -> None:
        self.source = source
        self.encoded = pair(source.datasets, source.features)
        self._texts: dict[tuple[str, Concepts], Tensor] = {}
        self._splits: dict[tuple[str, int, int, Concepts], Split] = {}

    @cached_property
    def clip(self) -> Clip:
        """The CLIP that the features were made with; ConfigError if its weights are others now."""
        extra = next(iter(self.encoded.values())).store.artifact.manifest.extra
        clip = backbone(extra["backbone"])
        if clip.weights_hash != extra["weights_hash"]:
            raise ConfigError(
                f"features: made with weights {extra['weights_hash']} of {extra['backbone']!r}, "
                f"which now has {clip.weights_hash}; allowed: features of the CLIP that is there"
            )
        return clip

    @cached_property
    def teacher(self) -> Teacher | None:
        """The pretrained teacher; ConfigError if it was trained on another CLIP."""
        if self.source.teacher is None:
            return None
        folder = open_artifact(self.source.teacher, "teacher").local_dir()
        try:
            teacher, (encoded, *_) = load_teacher(folder), self.encoded.values()
        except ValueError as error:
            raise ConfigError(f"teacher: {error}") from error
        if teacher.model["weights_hash"] != encoded.store.artifact.manifest.extra["weights_hash"]:
            raise ConfigError(
                f"teacher: {self.source.teacher!r} was trained on {teacher.model['backbone']!r} "
                f"with weights {teacher.model['weights_hash']}; allowed: the CLIP of the features"
            )
        return teacher

    def require_fitting(self, cells: Iterable[Cell]) -> None:
        """ConfigError if a cell's method needs what the CLIP has not."""
        for cell in cells:
            where, config = f"methods.{cell.name}", cell.config
            try:
                require_method(self.clip, where, config.method, cell.hyper, config.space)
            except ValueError as error:
                raise ConfigError(str(error)) from error

    def require_readable_names(self, cells: Iterable[Cell]) -> None:
        """ConfigError if a dataset has a class name without a token, or longer than CLIP reads.

        cells: those whose methods have to leave room for context before the names.
        """
        contexts = {text for cell in cells if (text := METHODS[cell.config.method].context)}
        for name, encoded in self.encoded.items():
            require_names(self.clip, f"dataset {name}", encoded.names("all"), contexts)

    def task(self, cell: Cell, split: Split | None) -> Task:
        """The task of a cell; split: its drawn shots or None. The test split stays closed."""
        concepts, encoded = cell.config.concepts, self.encoded[cell.dataset]
        store, dataset = encoded.store, encoded.dataset
        train = store.rows("train", split.train_ids if split else [])
        val = store.rows("val", split.val_ids) if split and split.val_ids else None
        imagined = store.features("imagined")
        names = encoded.names(concepts)
        task = Task(
            dataset=cell.dataset,
            names=names,
            hint=dataset.hint,
            template=dataset.template,
            train=encoded.of_concepts(train, concepts).copied(),
            val=encoded.of_concepts(val, concepts).copied() if val else None,
            imagined=encoded.of_concepts(imagined, concepts) if len(imagined) else None,
            clip=self.clip,
            text=self._text(cell.dataset, concepts),
            prompts=encoded.prompts(concepts),
        )
        if METHODS[cell.config.method].reads != "images":
            return task
        return self._with_pictures(task, encoded, split, concepts)

    def _with_pictures(
        self, task: Task, encoded: EncodedDataset, split: Split | None, concepts: Concepts
    ) -> Task:
        """The same task with the pictures of its images; those to train on leave room for crops."""
        store, here, square = encoded.store, encoded.dataset.artifact, self.clip.square
        larger = round(MARGIN * self.clip.image_size)
        train, val, imagined = task.train, task.val, task.imagined
        if split:
            train = replace(
                train, images=pictures(here, store.readable("train", split.train_ids), larger)
            )
        if split and val:
            val = replace(val, images=pictures(here, store.readable("val", split.val_ids), *square))
        if imagined:
            rows = encoded.ids("imagined", concepts)
            imagined = replace(imagined, images=pictures(self.base_set(encoded), rows, larger))
        return replace(task, train=train, val=val, imagined=imagined)

    def base_set(self, encoded: EncodedDataset) -> Artifact:
        """The images that the imagined features were made of; ConfigError if it is another set."""
        expected = encoded.store.artifact.manifest.inputs.get("base_set")
        base_set = self.source.base_set and open_artifact(self.source.base_set, "images")
        if not base_set or base_set.manifest.content_hash != expected:
            raise ConfigError(
                f"base_set: {self.source.base_set!r}; allowed, for a method that learns on "
                f"pictures: the one whose images {encoded.store.artifact.uri!r} holds"
            )
        return base_set

    def split(self, cell: Cell, seed: int) -> Split | None:
        """The shots of a cell, drawn once; None if it has none. ConfigError if there are too few
        images."""
        encoded = self.encoded[cell.dataset]
        if not encoded.labels(cell.config.concepts):
            raise ConfigError(
                f"methods.{cell.name}.concepts: {cell.config.concepts!r}, but dataset "
                f"{cell.dataset!r} has no such class; allowed: all, or a group that it has"
            )
        if not cell.shots:
            return None
        shots, concepts = cell.shots, cell.config.concepts
        if (key := (cell.dataset, shots, seed, concepts)) not in self._splits:
            policy, rule = self.source.val_policy, self.source.shot_rule
            self._splits[key] = draw_shots(encoded.dataset, shots, seed, policy, concepts, rule)
        return self._splits[key]

    def _text(self, dataset: str, concepts: Concepts) -> Tensor:
        if (dataset, concepts) not in self._texts:
            encoded = self.encoded[dataset]
            self._texts[dataset, concepts] = zero_shot_classifier(
                self.clip,
                encoded.names(concepts),
                self.source.templates,
                encoded.dataset.template,
                encoded.prompts(concepts),
            )
        return self._texts[dataset, concepts]


@lru_cache(maxsize=1)
def opened_tasks(source: TaskSource) -> Tasks:
    """Tasks of a worker: what a process computes one after the other shares what it has opened."""
    return Tasks(source)
