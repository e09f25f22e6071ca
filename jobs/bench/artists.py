"""`python -m jobs.bench artists`: LAION-Beyond's story, told by every artist of the embedded world.

Of concepts that are out of CLIP's pre-training the names fail while the features cluster, and
learning the names (FSNL) restores them. Nothing here is searched. All values are test accuracies in
%, of OOP classes among OOP classes, and of IP classes among IP classes; a dataset counts once, with
the mean over shots' seeds. Digits, which no artist draws, stand beside the artists.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from jsonargparse.typing import NonNegativeInt, PositiveInt

from actors.embedded.concepts import DATASETS, DIGITS
from actors.embedded.sprites import ARTISTS, Artist
from actors.features.encoder import EncoderConfig
from actors.search.cells import Cell, MethodConfig
from actors.search.evaluator import heads_on_test
from actors.search.measures import accuracy
from actors.search.runnable import runnable_cells
from actors.search.tasks import Tasks, task_source
from cluster.catalog.splits import Concepts
from cluster.connect import connect
from cluster.errors import ConfigError
from cluster.pool import Pool
from cluster.progress import show_progress
from jobs.dataset import DatasetConfig, dataset
from jobs.encode import EncodeConfig, encode
from jobs.report.statistics.scores import Score, estimate
from models.backbones import TINY
from models.methods import METHODS

GROUPS: tuple[Concepts, ...] = ("OOP", "IP")
ZERO_SHOT, MEANS, FSNL = "zero_shot", "class_means", "fsnl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArtistsBench:
    """Whose pictures, of which subjects, and what the names are learned from."""

    storage: str = "runs/bench"
    """Where datasets and features are made."""
    artists: list[Artist] = dataclasses.field(default_factory=lambda: list(ARTISTS))
    """Who draws the target's pictures, one after the other."""
    datasets: list[str] = dataclasses.field(default_factory=lambda: list(DATASETS))
    """Embedded datasets."""
    shots: PositiveInt = 4
    """Training images of each OOP class."""
    seeds: list[NonNegativeInt] = dataclasses.field(default_factory=lambda: [0, 1, 2])
    """Each draws other shots."""
    hyper: dict[str, Any] = dataclasses.field(default_factory=lambda: {"lr": 0.01, "epochs": 60})
    """Hyper-parameters of FSNL that differ from its defaults; as in `embedded_table.yaml`."""
    pool: Pool = dataclasses.field(default_factory=Pool)
    """Encoders."""

    def __post_init__(self) -> None:
        for field in ("artists", "datasets", "seeds"):
            if not getattr(self, field):
                raise ConfigError(f"{field}: none; allowed: at least one")


def artists(cfg: ArtistsBench) -> dict[str, float]:
    """`{artist}_{group}_{method}`, its half width (95 %, over datasets) and `…_datasets`.

    method: zero_shot, the names by CLIP's own text tower; class_means, the nearest mean of the
    shots' moments, which knows no name; fsnl, learned names. class_means knows OOP classes alone.
    """
    with connect():
        rounds = [(artist, *_encoded(cfg, artist)) for artist in _drawers(cfg)]
    measurements: dict[str, float] = {}
    for artist, datasets, features in rounds:
        source = task_source(datasets, features, val_policy="min", templates="hand")
        scores = list(_scores(cfg, artist, Tasks(source)))
        measurements |= _means(artist, scores)
    return measurements


def _drawers(cfg: ArtistsBench) -> list[str]:
    """The artists of some emoji datasets, and the digits by themselves."""
    emoji = cfg.artists if set(cfg.datasets) - {DIGITS} else []
    return [*emoji, DIGITS] if DIGITS in cfg.datasets else list(emoji)


def _encoded(cfg: ArtistsBench, drawer: str) -> tuple[list[str], list[str]]:
    """Datasets and features of what one artist drew, or of the digits."""
    specs: list[dict[str, Any]] = [{"name": DIGITS}]
    if drawer != DIGITS:
        specs = [{"name": name, "artist": drawer} for name in cfg.datasets if name != DIGITS]
    targets = [dataset(DatasetConfig(storage=cfg.storage, **spec)).uri for spec in specs]
    encoder = EncoderConfig(backbone=TINY, views=1)
    features = encode(
        EncodeConfig(storage=cfg.storage, datasets=targets, encoder=encoder, pool=cfg.pool)
    )
    return targets, [artifact.uri for artifact in features]


def _scores(cfg: ArtistsBench, artist: str, tasks: Tasks) -> Iterator[Score]:
    lines = {
        ZERO_SHOT: MethodConfig(method=ZERO_SHOT, shots=[0]),
        MEANS: MethodConfig(
            method=MEANS, shots=[cfg.shots], concepts="OOP", hyper={"without_teacher": "raw"}
        ),
        FSNL: MethodConfig(method=FSNL, shots=[cfg.shots], concepts="OOP", hyper=cfg.hyper),
    }
    cells = runnable_cells(tasks, lines, cfg.seeds)
    fits = [(cell, seed) for cell in cells for seed in cell.seeds(cfg.seeds)]
    with show_progress(f"artists: {artist}", len(fits), "fits") as progress:
        for cell, seed in fits:
            yield from _of_cell(tasks, cell, seed)
            progress.advance()


def _of_cell(tasks: Tasks, cell: Cell, seed: int) -> Iterator[Score]:
    encoded = tasks.encoded[cell.dataset]
    task = tasks.task(cell, tasks.split(cell, seed))
    model = METHODS[cell.config.method].fit(task, cell.hyper, seed, None)
    for group in GROUPS[:1] if cell.name == MEANS else GROUPS:
        if encoded.labels(group):
            (answers,) = heads_on_test(model, encoded, [group])[model.card.selection.head].values()
            yield Score(cell.dataset, cell.name, seed, "accuracy", group, accuracy(answers))


def _means(artist: str, scores: Sequence[Score]) -> dict[str, float]:
    """Over datasets, of the mean over seeds of each."""
    measurements: dict[str, float] = {}
    for method, group in dict.fromkeys((score.method, score.label_space) for score in scores):
        of_datasets: dict[str, list[float]] = defaultdict(list)
        for score in scores:
            if (score.method, score.label_space) == (method, group):
                of_datasets[score.dataset].append(100 * score.value)
        mean, name = (
            estimate([fmean(v) for v in of_datasets.values()]),
            f"{artist}_{group}_{method}",
        )
        measurements |= {name: mean.mean, f"{name}_datasets": mean.n}
        if mean.half_width is not None:
            measurements[f"{name}_half_width"] = mean.half_width
    return measurements
