"""`python -m jobs.bench worth`: what a pretrained adapter and imagined images are worth.

Nothing here is searched, and only `--world` starts Ray. All values are in %, differences in points.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from statistics import mean
from typing import Literal

from jsonargparse.typing import NonNegativeInt, PositiveInt
from torch import Tensor

from actors.search.cells import Cell, MethodConfig
from actors.search.evaluator import answers_on_test
from actors.search.measures import accuracy
from actors.search.runnable import runnable_cells
from actors.search.tasks import EncodedDataset, Tasks, pair, task_source
from cluster.artifacts import open_artifact
from cluster.catalog.splits import draw_shots
from cluster.connect import connect
from cluster.errors import ConfigError
from jobs.bench.imagined import found_by_means, trained_with_labels
from jobs.report.sources import result_scores
from jobs.report.statistics.differences import paired, paired_over_datasets
from jobs.report.statistics.scores import Score, few_shot_scores
from jobs.world import WorldConfig, with_world
from models.methods import METHODS
from models.moment_adapter import AdapterConfig
from models.task import Features

METHOD = "imaginefsl"
HYPER = {
    "head_steps": 200, "steps": 12, "adapter_lr": 3e-5, "head_lr_factor": 1.0,
    "batch_real": 32, "batch_imagined": 16, "real_weight": 0.95,
}  # fmt: skip
"""Of the method in `labels`; the values of jobs/recipes/embedded_table.yaml."""
SCRATCH = "scratch"
"""Stands where a method's name does, for the fits of `labels` without a teacher."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorthBench:
    """Gain of one method over another; imagined images as prototypes; an adapter from labels."""

    part: Literal["pairs", "prototypes", "labels"] = "pairs"
    """pairs: one method minus another, of `results`. prototypes: images of IP classes by the
    nearest class mean. labels: what a teacher trained with labels adds, and what yours adds."""
    results: str | None = None
    """Of pairs: an artifact of kind "results"."""
    compare: str = METHOD
    """Of pairs: a method, as result tables show it."""
    against: str = f"{METHOD}-scratch"
    """Of pairs: the method that is subtracted."""
    storage: str = "runs/bench"
    """Where a world is made."""
    world: WorldConfig | None = None
    """Datasets, imagined images and a teacher to make first, instead of the next three."""
    datasets: list[str] = dataclasses.field(default_factory=list)
    """Artifacts of kind "dataset"."""
    features: list[str] = dataclasses.field(default_factory=list)
    """Artifacts of kind "features", one of each dataset, with imagined images in them."""
    teacher: str | None = None
    """Of labels: an artifact of kind "teacher"."""
    targets: list[str] = dataclasses.field(default_factory=list)
    """Names of the datasets that are tested; default: all. `labels` learns from all in any case."""
    shots: list[PositiveInt] = dataclasses.field(default_factory=lambda: [1, 4, 16])
    """Training images per class of the target."""
    seeds: list[NonNegativeInt] = dataclasses.field(default_factory=lambda: [0, 1, 2])
    """Each draws other shots."""
    epochs: PositiveInt = 8
    """Of labels: passes over the imagined images; with 8 as many as the tiny teacher has seen."""


def worth(cfg: WorthBench) -> dict[str, float]:
    """Measures what `part` says."""
    if cfg.part == "pairs":
        return pairs(cfg)
    with connect() if cfg.world else contextlib.nullcontext():
        cfg = with_world(cfg)
    return prototypes(cfg) if cfg.part == "prototypes" else labels(cfg)


def pairs(cfg: WorthBench) -> dict[str, float]:
    """Test accuracy of `compare` minus that of `against`, both of which have learned all classes.

    See `gains`. Raises ConfigError if there are no results, or none of both methods.
    """
    if not cfg.results:
        raise ConfigError('results: none; allowed, for pairs: an artifact of kind "results"')
    every = few_shot_scores(result_scores(open_artifact(cfg.results, "results")))
    scores = [score for score in every if score.measure == accuracy.__name__]
    measurements = gains(scores, cfg.compare, cfg.against)
    if not measurements:
        methods = dict.fromkeys(score.method for score in scores if score.shots)
        raise ConfigError(
            f"compare: {cfg.compare!r} and {cfg.against!r} have no shots in common; "
            f"allowed, with the same shots: two of {', '.join(methods)}"
        )
    return measurements


def gains(scores: Sequence[Score], compare: str, against: str) -> dict[str, float]:
    """By shots: mean over datasets, half of its 95 % interval, datasets, and those with a gain.

    Scores of one measure pair up by seed and drawn shots; a dataset's gain is the mean over seeds.
    The interval is Student's t over datasets; one dataset has none.
    """
    by_dataset = paired(scores, compare, against)
    measurements: dict[str, float] = {}
    for difference in paired_over_datasets(scores, compare, against):
        gain, shots = difference.gain, f"{difference.shots}_shots"
        of_these = [d.gain.mean for d in by_dataset if d.shots == difference.shots]
        ahead = sum(round(value, 9) > 0 for value in of_these)  # equal means differ by rounding
        measurements[f"gain_{shots}"] = 100 * gain.mean
        if gain.half_width is not None:
            measurements[f"half_width_{shots}"] = 100 * gain.half_width
        measurements |= {f"datasets_{shots}": gain.n, f"ahead_{shots}": ahead}
    return measurements


def prototypes(cfg: WorthBench) -> dict[str, float]:
    """Share of the test images of IP classes whose nearest class mean is that of their own class.

    The means are of all classes of the dataset, IP and OOP: the label space is all of them.
    `imagined_…`: means of the imagined images; `few_…`: of the shots, and then over the seeds. A
    dataset without IP classes is left out; ConfigError if all are, and if a class has no image.
    """
    measurements: dict[str, float] = {}
    for name, encoded in _targets(cfg, pair(cfg.datasets, cfg.features)).items():
        if encoded.labels("IP"):
            measurements |= {f"{k}_{name}": v for k, v in _of_dataset(cfg, encoded).items()}
    if not measurements:
        raise ConfigError("targets: none has IP classes; allowed: at least one that has")
    return measurements


def _of_dataset(cfg: WorthBench, encoded: EncodedDataset) -> dict[str, float]:
    store, concepts = encoded.store, encoded.dataset.concepts

    def found(known: Features) -> float:
        return 100 * found_by_means(known, store.features("test"), concepts)

    values = {"imagined": found(store.features("imagined"))}
    for shots in cfg.shots:
        drawn = [draw_shots(encoded.dataset, shots, seed, "none", "all") for seed in cfg.seeds]
        few = [found(store.rows("train", split.train_ids)) for split in drawn]
        values[f"few_{shots}_shots"] = mean(few)
    return values


def _targets(cfg: WorthBench, encoded: dict[str, EncodedDataset]) -> dict[str, EncodedDataset]:
    for name in cfg.targets:
        if name not in encoded:
            raise ConfigError(f"targets: {name!r}; allowed: {', '.join(encoded)}")
    return {name: encoded[name] for name in cfg.targets or encoded}


def labels(cfg: WorthBench) -> dict[str, float]:
    """Gains of ImagineFSL with a teacher over the same without one (`scratch`), on test images.

    `labels_…`: the teacher is `trained_with_labels`. `moment_dino_…`: it is `cfg.teacher`, of the
    same size. See `gains`.
    """
    tasks = Tasks(task_source(cfg.datasets, cfg.features, val_policy="min", templates="hand",
                              teacher=cfg.teacher))  # fmt: skip
    if tasks.teacher is None:
        raise ConfigError('teacher: none; allowed, for labels: an artifact of kind "teacher"')
    targets = _targets(cfg, tasks.encoded)
    method = MethodConfig(method=METHOD, shots=list(cfg.shots), hyper=HYPER)
    cells = [c for c in runnable_cells(tasks, {METHOD: method}, cfg.seeds) if c.dataset in targets]
    imagined = [encoded.store.features("imagined") for encoded in tasks.encoded.values()]
    sizes = AdapterConfig(**tasks.teacher.model["adapter"])
    labelled = trained_with_labels(imagined, sizes, cfg.epochs).adapter
    teachers = {"labels": labelled.state_dict(), "moment_dino": tasks.teacher.adapter_state}
    fits = [(cell, seed) for cell in cells for seed in cfg.seeds]
    scores = [score for fit in fits for score in _scores(tasks, *fit, {SCRATCH: None, **teachers})]
    of_each = {name: gains(scores, name, SCRATCH) for name in teachers}
    return {f"{name}_{k}": v for name, values in of_each.items() for k, v in values.items()}


def _scores(
    tasks: Tasks, cell: Cell, seed: int, teachers: dict[str, dict[str, Tensor] | None]
) -> Iterator[Score]:
    """Test accuracy of one fit from each teacher, which stands where the method's name does."""
    encoded, split = tasks.encoded[cell.dataset], tasks.split(cell, seed)
    task, drawn = tasks.task(cell, split), split.hash if split else ""
    for name, teacher in teachers.items():
        model = METHODS[METHOD].fit(task, cell.hyper, seed, teacher)
        value = accuracy(answers_on_test(model, encoded, ["all"])["all"])
        yield Score(cell.dataset, name, seed, "accuracy", "all", value, cell.shots, drawn)
