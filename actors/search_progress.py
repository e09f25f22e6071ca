"""How far a search is: a live table of its cells in a terminal, and a row whenever a trial ends."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from actors.studies import CellStudy
from actors.studies import Progress as OnDone
from cluster.progress import Stage, closing_line, stage
from cluster.rows import digest
from cluster.storage import node_cache

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


@dataclass
class CellProgress:
    """Trials and final fits of one cell."""

    study: CellStudy
    done: int

    @property
    def running(self) -> int:
        return self.study.total - self.study.remaining - self.done

    @property
    def complete(self) -> bool:
        return self.done == self.study.total

    @property
    def best(self) -> float | None:
        """Highest val accuracy of a finished trial, in [0, 1]."""
        return self.study.best.values[0] if self.study.best else None


def _log(folder: str) -> Path:
    """JSON lines of a search while it goes on, kept over a kill: in its folder if that is local,
    else in this node's cache."""
    if "://" not in folder:
        return Path(folder, "progress.jsonl")
    node_cache().mkdir(parents=True, exist_ok=True)
    return node_cache() / f"progress-{digest(folder).hex()}.jsonl"


def _note(log: Path, cell: CellProgress) -> None:
    row = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "cell": cell.study.cell.key,
        "done": cell.done,
        "total": cell.study.total,
        "best_val_accuracy": cell.best,
    }
    with log.open("a") as file:
        file.write(f"\n{json.dumps(row)}")  # the line break first: the last line may be torn


def progress_table(folder: str) -> pa.Table:
    """All rows (SCHEMA) of the search with this folder, in the order in which trials ended, over
    all of its runs on this machine. A line that a kill has torn is left out."""
    log = _log(folder)
    lines = log.read_text().splitlines() if log.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    for row in rows:
        row["time"] = datetime.fromisoformat(row["time"])
    return pa.Table.from_pylist(rows, SCHEMA)


class _LiveTable(Stage):
    """For a terminal: the cells, running ones first, as many as it has lines for."""

    def __init__(self, total: int, done: int, cells: Sequence[CellProgress], live: Live) -> None:
        super().__init__("search", total, "trials", done)
        self.cells, self.live = cells, live

    def show(self) -> None:
        self.live.update(self.table())

    def table(self) -> Table:
        headline = f"search: {self.done}/{self.total} trials, {self.detail()}"
        title = Text(headline, no_wrap=True, overflow="ellipsis")
        table = Table(
            "cell", "trials", "running", "best val", title=title, title_justify="left", expand=True
        )
        ordered = sorted(self.cells, key=lambda cell: (not cell.running, cell.complete))
        shown = ordered[: max(1, self.live.console.height - LINES_AROUND)]
        for cell in shown:
            best = f"{100 * cell.best:.1f} %" if cell.best is not None else ""
            count = f"{cell.done}/{cell.study.total}"
            table.add_row(cell.study.cell.key, count, str(cell.running or ""), best)
        if hidden := len(ordered) - len(shown):
            table.caption = f"and {hidden} more"
        return table


@contextmanager
def search_progress(studies: Sequence[CellStudy], folder: str) -> Iterator[OnDone]:
    """Yields what is to be called with the study of every trial and final fit that has ended.

    folder: URI of the search's. A terminal gets the table, a log few whole lines.
    """
    cells = [CellProgress(study, study.total - study.remaining) for study in studies]
    by_key = {cell.study.cell.key: cell for cell in cells}
    log = _log(folder)
    with _shown(cells) as progress:

        def on_done(study: CellStudy) -> None:
            ended = by_key[study.cell.key]
            ended.done += 1
            _note(log, ended)
            best = f"{ended.best:.3f}" if ended.best is not None else "-"
            complete = sum(cell.complete for cell in cells)
            running = sum(cell.running > 0 for cell in cells)
            where = f"{complete}/{len(cells)} done, {running} running"
            progress.advance(cells=where, best=f"{best} in {study.cell.key}")

        yield on_done


@contextmanager
def _shown(cells: Sequence[CellProgress]) -> Iterator[Stage]:
    total, done = sum(cell.study.total for cell in cells), sum(cell.done for cell in cells)
    console = Console(stderr=True)
    if not console.is_terminal:
        with stage("search", total, "trials", done=done) as lines:
            yield lines
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        table = _LiveTable(total, done, cells, live)
        table.show()
        yield table
    closing_line(table)
