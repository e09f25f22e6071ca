"""The tables `trials` and `fits` of an "adapted" artifact."""

import dataclasses
import json
from collections.abc import Iterable, Sequence

import pyarrow as pa

from actors.search.cells import Cell
from actors.search.fits import Fit, read_fit
from actors.search.studies import CellStudy
from cluster.artifacts import Artifact

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
        ("cpu_s", pa.float64()),
        ("population", pa.int32()),
        ("error", pa.string()),
    ]
)


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
            "cpu_s": trial.user_attrs.get("cpu_s"),
            "population": trial.user_attrs.get("population"),
            "error": trial.user_attrs.get("error", ""),
        }
        for study in studies
        for number, trial in sorted(study.trials.items())
    ]
    return pa.Table.from_pylist(rows, TRIALS_SCHEMA)


def fits_table(models: str, cells: Iterable[Cell], seeds: Sequence[int]) -> pa.Table:
    """One row per model of these cells and seeds, with `hyper` as JSON."""
    fits = [read_fit(models, cell.key, seed) for cell in cells for seed in cell.seeds(seeds)]
    rows = [dataclasses.asdict(fit) | {"hyper": json.dumps(fit.hyper)} for fit in fits if fit]
    return pa.Table.from_pylist(rows)


def read_fits(adapted: Artifact) -> list[Fit]:
    """The rows of the table `fits` of an "adapted" artifact."""
    rows = adapted.read_table("fits").to_pylist()
    return [Fit(**{**row, "hyper": json.loads(row["hyper"])}) for row in rows]
