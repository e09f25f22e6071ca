"""`python -m jobs.bench effect`: what moment-DINO pretraining adds, by features and by head.

Nothing here is searched. Several adapters are pretrained on one base set, each from another seed,
and set against CLIP's own tokens and against an adapter that is drawn at random: by class means of
frozen features, and by ImagineFSL's visual head and its fused one, for which CLIP's own tokens are
an adapter that begins by changing none. All values are in points of test accuracy; a dataset counts
once, with the mean over shots' and pretraining's seeds.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from jsonargparse.typing import NonNegativeInt, PositiveInt
from torch import Tensor

from actors.search.cells import Cell, MethodConfig
from actors.search.evaluator import heads_on_test
from actors.search.measures import Answers, accuracy
from actors.search.runnable import runnable_cells
from actors.search.tasks import EncodedDataset, Tasks, task_source
from cluster.catalog.splits import Concepts
from cluster.connect import connect
from cluster.errors import ConfigError
from cluster.progress import show_progress
from jobs.bench.worth import gains
from jobs.report.statistics.scores import Score
from jobs.world import WorldConfig, world
from models.methods import METHODS
from models.moment_adapter import identity_state, load_teacher

GROUPS: tuple[Concepts, ...] = ("all", "OOP", "IP")
"""Test images of all classes, and of each group's; there are all classes to choose from."""
PRETRAINED, RANDOM, RAW = "pretrained", "random", "raw"
FEATURES, HEADS = "features", ("visual", "fused")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EffectBench:
    """A world, the seeds of its teachers, and the shots that they are tried on."""

    storage: str = "runs/bench"
    """Where the world is made."""
    world: WorldConfig
    """Datasets, base set, and how the teachers are pretrained."""
    pretraining_seeds: list[NonNegativeInt] = dataclasses.field(default_factory=lambda: [0, 1, 2])
    """Of the teachers, each in the place of `world.pretrainer.seed`."""
    shots: list[PositiveInt] = dataclasses.field(default_factory=lambda: [1, 4, 16])
    """Training images per class."""
    seeds: list[NonNegativeInt] = dataclasses.field(default_factory=lambda: [0, 1, 2])
    """Each draws other shots."""
    hyper: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Hyper-parameters of ImagineFSL that differ from its defaults."""

    def __post_init__(self) -> None:
        for field in ("pretraining_seeds", "shots", "seeds"):
            if not getattr(self, field):
                raise ConfigError(f"{field}: none; allowed: at least one")


def effect(cfg: EffectBench) -> dict[str, float]:
    """`{group}_{features or head}_{against}_…`: see `jobs.bench.worth.gains`.

    group: the test images of all, OOP or IP classes. against: raw, CLIP's own tokens, or random, a
    random adapter.
    """
    every = list(_scores(cfg))
    measurements: dict[str, float] = {}
    for group in GROUPS:
        scores = [score for score in every if score.label_space == group]
        for name in (FEATURES, *HEADS):
            for against in (RAW, RANDOM):
                values = gains(scores, f"{name} {PRETRAINED}", f"{name} {against}")
                prefix = f"{group}_{name}_{against}"
                measurements |= {f"{prefix}_{key}": value for key, value in values.items()}
    return measurements


def _scores(cfg: EffectBench) -> Iterator[Score]:
    with connect():
        worlds = [world(cfg.storage, _seeded(cfg.world, seed)) for seed in cfg.pretraining_seeds]
    datasets = [artifact.uri for artifact in worlds[0].datasets]
    features = [artifact.uri for artifact in worlds[0].features]
    source = task_source(
        datasets, features, teacher=worlds[0].teacher.uri, val_policy="min", templates="hand"
    )
    tasks = Tasks(source)
    teachers = [load_teacher(each.teacher.local_dir()).adapter_state for each in worlds]
    lines = {
        "means": MethodConfig(method="class_means", shots=list(cfg.shots), teacher=True),
        "imaginefsl": MethodConfig(
            method="imaginefsl", shots=list(cfg.shots), teacher=True, hyper=cfg.hyper
        ),
    }
    cells = runnable_cells(tasks, lines, cfg.seeds)
    fits = [(cell, seed) for cell in cells for seed in cfg.seeds]
    with show_progress("effect", len(fits), "fits") as progress:
        for cell, seed in fits:
            yield from _of_cell(tasks, cell, seed, teachers)
            progress.advance()


def _seeded(cfg: WorldConfig, seed: int) -> WorldConfig:
    return dataclasses.replace(cfg, pretrainer=dataclasses.replace(cfg.pretrainer, seed=seed))


def _of_cell(
    tasks: Tasks, cell: Cell, seed: int, teachers: list[dict[str, Tensor]]
) -> Iterator[Score]:
    """Of every start, by what the method's name in a score says: `features raw`, `fused random`."""
    encoded, split = tasks.encoded[cell.dataset], tasks.split(cell, seed)
    task, method = tasks.task(cell, split), METHODS[cell.config.method]
    starts: list[tuple[str, dict[str, Tensor] | None, Any]] = [
        (PRETRAINED, teacher, cell.hyper) for teacher in teachers
    ]
    if cell.name == "means":
        starts += [
            (start, None, dataclasses.replace(cell.hyper, without_teacher=start))
            for start in (RAW, RANDOM)
        ]
    else:
        starts += [(RAW, identity_state(teachers[0]), cell.hyper), (RANDOM, None, cell.hyper)]
    for start, teacher, hyper in starts:
        model = method.fit(task, hyper, seed, teacher)
        answers = {head: a["all"] for head, a in heads_on_test(model, encoded, ["all"]).items()}
        names = {FEATURES: "visual"} if cell.name == "means" else {head: head for head in HEADS}
        for name, head in names.items():
            for group, value in _accuracies(answers[head], encoded).items():
                yield Score(
                    dataset=cell.dataset,
                    method=f"{name} {start}",
                    seed=seed,
                    measure="accuracy",
                    label_space=group,
                    value=value,
                    shots=cell.shots,
                    split_hash=split.hash if split else "",
                )


def _accuracies(answers: Answers, encoded: EncodedDataset) -> dict[str, float]:
    """By group; one without test images is left out."""
    values: dict[str, float] = {"all": accuracy(answers)}
    right, images = answers.confusion.diagonal(), answers.confusion.sum(dim=1)
    for group in GROUPS[1:]:
        labels = encoded.labels(group)
        if labels and (count := int(images[labels].sum())):
            values[group] = int(right[labels].sum()) / count
    return values
