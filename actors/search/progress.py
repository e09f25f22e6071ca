"""How far a search is: a live table of its cells in a terminal, and a row whenever a trial ends."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from actors.search.searcher import OnDone
from actors.search.studies import CellStudy
from cluster.artifacts import WORK
from cluster.cache import node_cache
from cluster.progress import Progress, closing_line, show_progress
from cluster.rows import digest

SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("ms", tz="UTC")),
        ("cell", pa.string()),
        ("done", pa.int32()),
        ("total", pa.int32()),
        ("best_val_accuracy", pa.float64()),
    ]
)
"""Of the table `progress`; done, total: trials and final fits of the cell."""
LINES_AROUND = 6
"""Of the terminal, which the table does not fill."""


def _log(folder: str) -> Path:
    """File of JSON lines that a search writes while it goes on.

    It outlives a kill: in the search's folder if that is local, else in this node's cache.
    """
    if "://" not in folder:
        log = Path(folder, WORK, "progress.jsonl")
        log.parent.mkdir(parents=True, exist_ok=True)
        return log
    return node_cache() / f"progress-{digest(folder).hex()}.jsonl"


def _best(study: CellStudy) -> float | None:
    """Highest val accuracy of a finished trial, in [0, 1]."""
    return study.best.values[0] if study.best else None


def _note(log: Path, study: CellStudy) -> None:
    row = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "cell": study.cell.key,
        "done": study.total - study.remaining,
        "total": study.total,
        "best_val_accuracy": _best(study),
    }
    with log.open("a") as file:
        file.write(f"\n{json.dumps(row)}")  # the line break first: the last line may be torn


def progress_table(folder: str) -> pa.Table:
    """All rows (SCHEMA) of the search with this folder, in the order in which trials ended.

    They are of all of its runs on this machine. A line that a kill has torn is left out.
    """
    log = _log(folder)
    lines = log.read_text().splitlines() if log.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    for row in rows:
        row["time"] = datetime.fromisoformat(row["time"])
    return pa.Table.from_pylist(rows, SCHEMA)


class _LiveTable(Progress):
    """The cells of a search in a terminal, running ones first, as many as it has lines for."""

    def __init__(self, total: int, done: int, studies: Sequence[CellStudy], live: Live) -> None:
        super().__init__("search", total, "trials", done)
        self.studies, self.live = studies, live

    def show(self) -> None:
        self.live.update(self.table())

    def table(self) -> Table:
        headline = f"search: {self.done}/{self.total} trials, {self.detail()}"
        title = Text(headline, no_wrap=True, overflow="ellipsis")
        table = Table(
            "cell", "trials", "running", "best val", title=title, title_justify="left", expand=True
        )
        ordered = sorted(self.studies, key=lambda study: (not study.running, not study.remaining))
        top = ordered[: max(1, self.live.console.height - LINES_AROUND)]
        for study in top:
            value = _best(study)
            best = f"{100 * value:.1f} %" if value is not None else ""
            count = f"{study.total - study.remaining}/{study.total}"
            table.add_row(study.cell.key, count, str(study.running or ""), best)
        if hidden := len(ordered) - len(top):
            table.caption = f"and {hidden} more"
        return table


@contextmanager
def search_progress(studies: Sequence[CellStudy], folder: str) -> Iterator[OnDone]:
    """Shows a search while it runs; yields what is to be called after every trial and final fit.

    folder: URI of the search's. A terminal gets the table, a log few whole lines.
    """
    log, total = _log(folder), sum(study.total for study in studies)
    with _shown(studies, total) as progress:

        def on_done(study: CellStudy) -> None:
            _note(log, study)
            value = _best(study)
            best = f"{value:.3f}" if value is not None else "-"
            complete = sum(not study.remaining for study in studies)
            running = sum(study.running > 0 for study in studies)
            where = f"{complete}/{len(studies)} done, {running} running"
            # a cell whose seconds are spent needs fewer trials than were planned at the start
            done = total - sum(study.remaining for study in studies)
            progress.advance(done - progress.done, cells=where, best=f"{best} in {study.cell.key}")

        yield on_done


@contextmanager
def _shown(studies: Sequence[CellStudy], total: int) -> Iterator[Progress]:
    done = total - sum(study.remaining for study in studies)
    console = Console(stderr=True)
    if not console.is_terminal:
        with show_progress("search", total, "trials", done=done) as lines:
            yield lines
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        table = _LiveTable(total, done, studies, live)
        table.show()
        yield table
    closing_line(table)
