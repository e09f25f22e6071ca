"""Studies: one Optuna study per cell, handed to Ray Tune trial by trial."""

import json
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import optuna
import pyarrow as pa
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from actors.cells import Cell
from cluster.rows import digest

NUMBER = "number"
"""Attribute of a stored trial: its place in the cell (Optuna's own number: the order of ending)."""
TRIALS_TO_PRUNE_BY = 4
TRIALS_SCHEMA = pa.schema(
    [
        ("cell", pa.string()),
        ("number", pa.int32()),
        ("state", pa.string()),
        ("val_accuracy", pa.float64()),
        ("val_loss", pa.float64()),
        ("values", pa.string()),
        ("reports", pa.string()),
        ("wall_s", pa.float64()),
        ("error", pa.string()),
    ]
)
Progress = Callable[["CellStudy"], None]


class CellStudy:
    """The trials of one cell and, once they are done, the fits of its best configuration.

    Trials come in generations. What a trial tries, and whether it is pruned, follows from its
    number and from the finished trials of earlier generations alone; so neither the order in which
    trials end nor a kill changes the result. Only finished trials are stored, each in one piece.
    """

    def __init__(
        self, cell: Cell, seeds: Sequence[int], kept: Sequence[int], study: optuna.Study, size: int
    ) -> None:
        """seeds: all to fit; kept: those whose model is there. size: trials per generation."""
        self.cell, self.study, self.size = cell, study, size
        self.space = cell.distributions()
        self.search_seed = seeds[0]
        # the best trial's model becomes the fit of the seed that was searched on
        to_fit = seeds[1:] if cell.config.trials else seeds
        self.total = cell.config.trials + len(to_fit)
        self.open_seeds = [seed for seed in to_fit if seed not in kept]
        self.trials = {trial.user_attrs[NUMBER]: trial for trial in study.get_trials()}
        self.open_trials = [n for n in range(cell.config.trials) if n not in self.trials]

    @property
    def remaining(self) -> int:
        """Trials and fits not yet handed out."""
        return len(self.open_trials) + len(self.open_seeds)

    def next_config(self) -> dict[str, Any] | None:
        """The next trial or fit, as `run_trial` takes it; None while it waits for running ones."""
        if self.open_trials:
            number = self.open_trials[0]
            if any(n not in self.trials for n in range(self._generation_start(number))):
                return None
            self.open_trials.pop(0)
            return self._config(self.search_seed, self.values(number), number)
        if self.open_seeds and len(self.trials) == self.cell.config.trials:
            values = self.winner().params if self.trials else {}
            return self._config(self.open_seeds.pop(0), values, None)
        return None

    def values(self, number: int) -> dict[str, Any]:
        """What a trial tries: number 0 the declared values where the space has them, then TPE."""
        replica = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=self._seed(number)),
        )
        replica.add_trials(self._earlier(number))
        if number == 0:
            declared = {name: getattr(self.cell.hyper, name) for name in self.space}
            replica.enqueue_trial({n: v for n, v in declared.items() if _holds(self.space[n], v)})
        return replica.ask(self.space).params

    def hopeless(self, number: int, step: int, value: float) -> bool:
        """The median rule: worse than half of the earlier generations' trials at the same step.

        Source: Vizier (Golovin et al., 2017), section 3.2.2; our choice: values at that step, not
        running means, and earlier generations only.
        """
        earlier = [trial.intermediate_values for trial in self._earlier(number)]
        others = [values[step] for values in earlier if step in values]
        return len(others) >= TRIALS_TO_PRUNE_BY and value < median(others)

    def store(
        self,
        number: int,
        values: dict[str, Any],
        reports: dict[int, float],
        last: dict[str, Any],
    ) -> None:
        """Keeps a finished trial. reports: val accuracy by step; last: its last report."""
        known = ("val_loss", "wall_s", "error")
        attributes: dict[str, Any] = {name: last[name] for name in known if name in last}
        if "error" in last:
            state, value = TrialState.FAIL, None
        elif "final" in last:
            state, value = TrialState.COMPLETE, last["val_accuracy"]
        else:
            state, value = TrialState.PRUNED, last["val_accuracy"]
        self.trials[number] = optuna.trial.create_trial(
            state=state,
            value=value,
            params=values,
            distributions=self.space,
            user_attrs=attributes | {NUMBER: number},
            intermediate_values=reports,
        )
        self.study.add_trial(self.trials[number])

    @property
    def best(self) -> FrozenTrial | None:
        """The finished trial with the highest val accuracy; of equals the least loss."""
        finished = [t for _, t in sorted(self.trials.items()) if t.state == TrialState.COMPLETE]
        return min(finished, key=lambda t: (-t.values[0], t.user_attrs["val_loss"]), default=None)

    def winner(self) -> FrozenTrial:
        """The best of all trials, now that they are done. RuntimeError if none succeeded."""
        if self.best is None:
            errors = [
                t.user_attrs["error"] for t in self.trials.values() if "error" in t.user_attrs
            ]
            raise RuntimeError(f"all trials of {self.cell.key} failed; the first with: {errors[0]}")
        return self.best

    def _config(self, seed: int, values: dict[str, Any], number: int | None) -> dict[str, Any]:
        return {"cell": self.cell.key, "seed": seed, "values": values, NUMBER: number}

    def _generation_start(self, number: int) -> int:
        return number // self.size * self.size

    def _earlier(self, number: int) -> list[FrozenTrial]:
        return [self.trials[n] for n in range(self._generation_start(number))]

    def _seed(self, number: int) -> int:
        return int.from_bytes(digest(self.cell.key, str(number), size=4), "big")


def _holds(space: BaseDistribution, value: Any) -> bool:
    if isinstance(space, CategoricalDistribution):
        return value in space.choices
    return value is not None and space.low <= value <= space.high  # type: ignore[attr-defined]


def open_studies(
    cells: Sequence[Cell], seeds: list[int], kept: dict[str, list[int]], url: str, size: int
) -> list[CellStudy]:
    """Opens or creates the study of each cell. url: a journal file, or an RDB URL of Optuna's."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "://" in url:
        storage: optuna.storages.BaseStorage = optuna.storages.RDBStorage(url)
    else:
        backend = JournalFileBackend(url)
        storage = optuna.storages.JournalStorage(backend)
    return [
        CellStudy(
            cell,
            cell.seeds(seeds),
            kept.get(cell.key, []),
            optuna.create_study(
                storage=storage, study_name=cell.key, direction="maximize", load_if_exists=True
            ),
            size,
        )
        for cell in cells
    ]


def trials_table(studies: Sequence[CellStudy]) -> pa.Table:
    """One row per finished trial; `values` and `reports` (val accuracy by step) as JSON."""
    rows = [
        {
            "cell": study.cell.key,
            "number": number,
            "state": trial.state.name.lower(),
            "val_accuracy": trial.value,
            "val_loss": trial.user_attrs.get("val_loss"),
            "values": json.dumps(trial.params),
            "reports": json.dumps(trial.intermediate_values),
            "wall_s": trial.user_attrs.get("wall_s"),
            "error": trial.user_attrs.get("error", ""),
        }
        for study in studies
        for number, trial in sorted(study.trials.items())
    ]
    return pa.Table.from_pylist(rows, TRIALS_SCHEMA)


class CellSearcher(Searcher):
    """Hands the work of all cells to Tune, cell after cell in turn, and keeps what comes back."""

    def __init__(self, studies: Sequence[CellStudy], on_done: Progress) -> None:
        super().__init__(metric="val_accuracy", mode="max")
        self.studies = list(studies)
        self.on_done = on_done
        self.running: dict[str, tuple[CellStudy, dict[str, Any]]] = {}
        self.reports: dict[str, dict[int, float]] = {}
        self.turn = 0

    def suggest(self, trial_id: str) -> Any:
        """A config, None for "not now", or Searcher.FINISHED."""
        for _ in self.studies:
            study = self.studies[self.turn]
            self.turn = (self.turn + 1) % len(self.studies)
            if config := study.next_config():
                self.running[trial_id] = study, config
                self.reports[trial_id] = {}
                return config
        return None if self.running else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        study, config = self.running.pop(trial_id)
        reports = self.reports.pop(trial_id)
        if error or result is None:
            return  # a fault of the machine; not stored, so that another run tries again
        if config[NUMBER] is not None:
            study.store(config[NUMBER], config["values"], reports, result)
        self.on_done(study)

    def hopeless(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Notes a report of a running trial; whether the trial should be stopped at it."""
        study, config = self.running[trial_id]
        if config[NUMBER] is None or "final" in result:
            return False
        step, value = result["step"], result["val_accuracy"]
        self.reports[trial_id][step] = value
        return study.hopeless(config[NUMBER], step, value)


class EarlyStopping(FIFOScheduler):
    """Asks the searcher at every report whether the trial goes on."""

    def __init__(self, searcher: CellSearcher) -> None:
        super().__init__()
        self.searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        hopeless = self.searcher.hopeless(trial.trial_id, result)
        return TrialScheduler.STOP if hopeless else TrialScheduler.CONTINUE
