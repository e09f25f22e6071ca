"""Studies: one Optuna study per cell, handed to Ray Tune population by population."""

from collections.abc import Sequence
from statistics import median
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from actors.search.cells import Cell
from actors.search.databases import open_studies_storage
from actors.search.proposals import Proposals
from cluster.errors import ConfigError

NUMBER = "number"
"""Attribute of a stored trial: its place in the cell (Optuna's own number: the order of ending)."""
TRIALS_TO_PRUNE_BY = 4


class CellStudy:
    """The trials of one cell and, once they are done, the fits of its best configuration.

    Trials come in generations. What a trial tries, and where it is pruned, follows from its number
    and from the trials of earlier generations alone; so neither the order in which trials end nor
    a kill changes the result. A generation is handed out as one population, or as several of equal
    size; each ends as a whole. Only finished trials are stored, each in one piece. A population of
    which a kill between two of them has stored a part is trained again as a whole, for its sums
    would be rounded in another way without those that are stored.
    """

    def __init__(
        self,
        cell: Cell,
        seeds: Sequence[int],
        fitted: Sequence[int],
        study: optuna.Study,
        size: int,
        population: int,
    ) -> None:
        """seeds: all to fit; fitted: those whose model is there. size: trials per generation.

        population: trials handed out together, at most; a generation is the limit.
        """
        self.cell, self.study, self.size = cell, study, size
        self.population = min(population, size)
        self.proposals = Proposals(cell, size)
        self.search_seed = seeds[0]
        # the best trial's model becomes the fit of the seed that was searched on
        self.seeds = seeds[1:] if cell.config.trials else seeds
        self.fitted = {seed for seed in self.seeds if seed in fitted}
        self.trials = {trial.user_attrs[NUMBER]: trial for trial in study.get_trials()}
        self._next_trial = 0
        self._open_seeds = [seed for seed in self.seeds if seed not in fitted]

    @property
    def planned(self) -> int:
        """Trials of this cell: those declared, or whole generations until the seconds are spent.

        From the times of stored trials, so that a search that goes on decides the same.
        """
        declared, seconds = self.cell.config.trials, self.cell.config.seconds
        if seconds is None:
            return declared
        spent = 0.0
        for start in range(0, declared, self.size):
            if spent >= seconds:
                return start
            here = (self.trials.get(number) for number in range(start, start + self.size))
            spent += sum(trial.user_attrs["wall_s"] for trial in here if trial)
        return declared

    @property
    def total(self) -> int:
        """Trials and fits of the whole cell."""
        return self.planned + len(self.seeds)

    @property
    def remaining(self) -> int:
        """Trials and fits that are not done."""
        return self.total - len(self.trials) - len(self.fitted)

    @property
    def running(self) -> int:
        """Trials and fits that are handed out and not done."""
        fits = len(self.seeds) - len(self._open_seeds) - len(self.fitted)
        return sum(number not in self.trials for number in range(self._next_trial)) + fits

    @property
    def at_once(self) -> int:
        """Populations and fits that a search which now begins can run side by side."""
        missing = [number for number in range(self.planned) if number not in self.trials]
        if not missing:
            return len(self._open_seeds)
        start = self._generation_start(missing[0])
        places = [number - start for number in missing if number < start + self.size]
        return len({place // self.population for place in places})

    def next_config(self) -> dict[str, Any] | None:
        """The next population or fit, as `run_trial` takes it; None while it waits for others."""
        while self._next_trial < (planned := self.planned):
            first = self._next_trial
            start = self._generation_start(first)
            if any(number not in self.trials for number in range(start)):
                return None
            stop = min(first + self.population, start + self.size, planned)
            self._next_trial = stop
            if any(number not in self.trials for number in range(first, stop)):
                members = [{NUMBER: n, "values": self.values(n)} for n in range(first, stop)]
                return self._config(self.search_seed, members, self.medians(first))
        if self._open_seeds and len(self.trials) == self.planned:
            values = self.winner().params if self.trials else {}
            return self._config(self._open_seeds.pop(0), [{NUMBER: None, "values": values}], {})
        return None

    def values(self, number: int) -> dict[str, Any]:
        """What a trial tries; see `Proposals`."""
        return dict(self.proposals.values(number, self._earlier(number)))

    def medians(self, number: int) -> dict[int, float]:
        """The median rule: at each step, the val accuracy below which a trial is pruned.

        Half of the earlier generations' trials were worse there. Source: Vizier (Golovin et al.,
        2017), section 3.2.2; our choice: values at that step, not running means, and earlier
        generations only.
        """
        reports: dict[int, list[float]] = {}
        for trial in self._earlier(number):
            for step, value in trial.intermediate_values.items():
                reports.setdefault(step, []).append(value)
        return {
            step: median(values)
            for step, values in sorted(reports.items())
            if len(values) >= TRIALS_TO_PRUNE_BY
        }

    def store(self, number: int, values: dict[str, Any], outcome: dict[str, Any]) -> None:
        """Keeps a finished trial, unless it is already.

        outcome: `actors.search.trials.Outcome` as dict.
        """
        if number in self.trials:
            return
        known = ("val_loss", "wall_s", "cpu_s", "population", "error")
        attributes = {name: outcome[name] for name in known if outcome[name] is not None}
        state = TrialState[outcome["state"].upper()]
        self.trials[number] = optuna.trial.create_trial(
            state=state,
            value=outcome["val_accuracy"],
            params=values,
            distributions=self.proposals.space,
            user_attrs=attributes | {NUMBER: number},
            intermediate_values=dict(outcome["reports"]),
        )
        self.study.add_trial(self.trials[number])

    @property
    def best(self) -> FrozenTrial | None:
        """The finished trial with the highest val accuracy; of equals the least loss."""
        finished = [t for _, t in sorted(self.trials.items()) if t.state == TrialState.COMPLETE]
        return min(finished, key=lambda t: (-t.values[0], t.user_attrs["val_loss"]), default=None)

    def winner(self) -> FrozenTrial:
        """The best of all trials, now that they are done. ConfigError if none succeeded."""
        if self.best is None:
            errors = [
                t.user_attrs["error"] for t in self.trials.values() if "error" in t.user_attrs
            ]
            raise ConfigError(
                f"methods.{self.cell.name}.space: all trials of {self.cell.key} failed, the first "
                f"with {errors[0]!r}; allowed: values with which one can be fitted"
            )
        return self.best

    def _config(
        self, seed: int, members: list[dict[str, Any]], medians: dict[int, float]
    ) -> dict[str, Any]:
        # pairs, for Tune makes names of a dict's keys
        below = [list(pair) for pair in medians.items()]
        return {"cell": self.cell.key, "seed": seed, "members": members, "medians": below}

    def _generation_start(self, number: int) -> int:
        return number // self.size * self.size

    def _earlier(self, number: int) -> list[FrozenTrial]:
        return [self.trials[n] for n in range(self._generation_start(number))]


def open_studies(
    cells: Sequence[Cell],
    seeds: list[int],
    fitted: dict[str, list[int]],
    url: str,
    search: str,
    size: int,
    population: int,
) -> list[CellStudy]:
    """Opens or creates the study of each cell.

    fitted: key of a cell to the seeds whose model is there. url: a journal file, or an RDB URL of
    Optuna's. search: what the search is known by, whose cells have the keys of other searches', and
    a database may have those, too. size: trials per generation. population: trials handed out
    together, at most.
    """
    storage = open_studies_storage(url)
    return [
        CellStudy(
            cell,
            cell.seeds(seeds),
            fitted.get(cell.key, []),
            optuna.create_study(
                storage=storage,
                study_name=f"{cell.key}-{search[:12]}",
                direction="maximize",
                load_if_exists=True,
            ),
            size,
            population,
        )
        for cell in cells
    ]
