"""How the search's cost grows, and what scheduling takes, in `python -m jobs.bench search`."""

import dataclasses
import tempfile
import time

from actors.search.cells import MethodConfig
from actors.search.spaces import Range
from cluster.artifacts import Artifact
from cluster.pool import Pool
from jobs.encode import EncodeConfig, encode
from jobs.search import SearchConfig, search

CHEAP = MethodConfig(
    method="taskres",
    shots=[1],
    hyper={"epochs": 20},
    space={"lr": Range(low=1e-4, high=1e-1, log=True)},
)
SHOTS = [1, 2, 4, 8, 16]
TRIALS_OF_A_CELL = 4


@dataclasses.dataclass(frozen=True)
class _Searched:
    """What a search took. seconds: of the whole search. fitting: sum over the trials."""

    seconds: float
    fitting: float
    units: int
    workers: int

    @property
    def overhead(self) -> float:
        """Share of the workers' time that no fit took, the start of the workers included."""
        return 1 - self.fitting / (self.workers * self.seconds)


def growing(
    target: Artifact, base_set: Artifact, trials: list[int], cells: list[int], workers: int
) -> dict[str, float]:
    """Seconds per trial of a cheap method (20 steps on text features), by trials and by cells.

    All of a search over its trials, and the share of the workers' time that no fit takes:
    `trials_N` of one cell with N trials, `cells_N` of N cells with four trials each. `further_…`:
    from the last count but one to the last, in which the start cancels out. Cells differ in shots
    and name alone, so that one dataset is enough; Ray runs already.
    """
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        features = _encoded(folder, target, base_set)
        for kind, counts, methods in (("trials", trials, _one_cell), ("cells", cells, _cells)):
            done = [_searched(folder, target, features, methods(n), workers) for n in counts]
            for count, search_of in zip(counts, done, strict=True):
                figures[f"{kind}_{count}_seconds"] = search_of.seconds / search_of.units
                figures[f"{kind}_{count}_overhead"] = search_of.overhead
            if len(done) > 1:
                before, last = done[-2:]
                units = last.units - before.units
                figures[f"further_{kind}_seconds"] = (last.seconds - before.seconds) / units
    return figures


def _one_cell(trials: int) -> dict[str, MethodConfig]:
    return {"trials": dataclasses.replace(CHEAP, trials=trials)}


def _cells(count: int) -> dict[str, MethodConfig]:
    """Methods with `count` cells between them on one dataset."""
    methods = {}
    for first in range(0, count, len(SHOTS)):
        shots = SHOTS[: count - first]
        methods[f"cells-{first}"] = dataclasses.replace(CHEAP, shots=shots, trials=TRIALS_OF_A_CELL)
    return methods


def overhead(
    target: Artifact, base_set: Artifact, method: MethodConfig, workers: int
) -> dict[str, float]:
    """Worker time that no fit takes, over all of it, in a search of one method with 1 to 16 shots.

    `after_start`: without the time of a search with one trial of a cheap method."""
    with tempfile.TemporaryDirectory() as folder:
        features = _encoded(folder, target, base_set)
        start = _searched(folder, target, features, _one_cell(1), workers)
        all_shots = {"imaginefsl": dataclasses.replace(method, shots=SHOTS)}
        whole = _searched(folder, target, features, all_shots, workers)
    after = dataclasses.replace(
        whole, seconds=whole.seconds - start.seconds, fitting=whole.fitting - start.fitting
    )
    return {
        "trials": whole.units,
        "start_seconds": start.seconds,
        "seconds": whole.seconds,
        "seconds_per_trial": whole.fitting / whole.units,
        "overhead": whole.overhead,
        "overhead_after_start": after.overhead,
    }


def _encoded(folder: str, target: Artifact, base_set: Artifact) -> Artifact:
    (features,) = encode(EncodeConfig(storage=folder, datasets=[target.uri], base_set=base_set.uri))
    return features


def _searched(
    folder: str,
    target: Artifact,
    features: Artifact,
    methods: dict[str, MethodConfig],
    workers: int,
) -> _Searched:
    """One search with a driver that has started Ray already."""
    started = time.monotonic()
    adapted = search(
        SearchConfig(
            storage=folder,
            datasets=[target.uri],
            features=[features.uri],
            methods=methods,
            seeds=[0],
            pool=Pool(workers=workers),
        )
    )
    seconds = time.monotonic() - started
    # The best trial's model is the fit of its seed, so trials are all that was fitted.
    times = adapted.read_table("trials", ["wall_s"])["wall_s"].to_pylist()
    return _Searched(seconds, sum(times), len(times), workers)
