"""The searcher: hands populations of all cells to Ray Tune, and keeps what comes back."""

from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.search import Searcher

from actors.search.studies import NUMBER, CellStudy
from actors.search.trials import REFUSED
from cluster.errors import ConfigError

OnDone = Callable[[CellStudy], None]
"""Called with the study of a trial or fit that has ended."""


class CellSearcher(Searcher):
    """Hands the work of all cells to Tune, cell after cell in turn, and keeps what comes back.

    Once a worker has refused a setting nothing more is handed out; what still runs is kept.
    """

    def __init__(self, studies: Sequence[CellStudy], on_done: OnDone) -> None:
        """on_done: is called after each trial and fit that has ended."""
        super().__init__()
        self.studies = list(studies)
        self.on_done = on_done
        self.running: dict[str, tuple[CellStudy, dict[str, Any]]] = {}
        self.turn = 0
        self.refusal: str | None = None
        """Why a setting is of no use."""

    def suggest(self, trial_id: str) -> Any:
        """A config, None for "not now", or Searcher.FINISHED."""
        config = None if self.refusal else self._next(trial_id)
        return config or (None if self.running else Searcher.FINISHED)

    def _next(self, trial_id: str) -> dict[str, Any] | None:
        for _ in self.studies:
            study = self.studies[self.turn]
            self.turn = (self.turn + 1) % len(self.studies)
            try:
                config = study.next_config()
            except ConfigError as error:  # none of a cell's trials could be fitted
                self.refusal = str(error)
                return None
            if config:
                self.running[trial_id] = study, config
                return config
        return None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        study, config = self.running.pop(trial_id)
        if error or result is None:
            return  # a fault of the machine; not stored, so that another run tries again
        if REFUSED in result:
            self.refusal = result[REFUSED]
            return
        for member, outcome in zip(config["members"], result["outcomes"], strict=True):
            if member[NUMBER] is None:
                study.fitted.add(config["seed"])
            else:
                study.store(member[NUMBER], member["values"], outcome)
            self.on_done(study)
