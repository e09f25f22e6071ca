"""Tables of a report's page as lines of text: artifacts, splits, differences, choices."""

from collections.abc import Sequence
from typing import Any

from cluster.artifacts import Artifact
from jobs.report.search import CellSearch
from jobs.report.sources import Fitted
from jobs.report.statistics import Difference, Row
from jobs.report.tables import Lines, shots_title


def artifact_lines(artifacts: dict[str, Artifact]) -> Lines:
    lines = [["role", "artifact", "made", "rows", "seeds", "hash"]]
    for role, artifact in artifacts.items():
        manifest = artifact.manifest
        counts, seeds = (
            ", ".join(f"{name} {n:,}" for name, n in pairs.items())
            for pairs in (manifest.rows, manifest.seeds)
        )
        name = f"{manifest.kind} / {manifest.name}"
        lines.append([role, name, made_at(artifact), counts, seeds, manifest.content_hash[:12]])
    return lines


def made_at(artifact: Artifact) -> str:
    """To the minute; manifests are in UTC."""
    return artifact.manifest.created[:16].replace("T", " ") + " UTC"


def split_lines(rows: Sequence[Row]) -> Lines:
    """The drawn shots behind the results, by their hash."""
    drawn = {(r.dataset, r.method, str(r.shots), str(r.seed), r.split_hash): None for r in rows}
    return [["dataset", "method", "shots", "seed", "split"], *(list(k) for k in drawn if k[-1])]


def difference_lines(differences: Sequence[Difference]) -> Lines:
    shots = sorted({difference.shots for difference in differences})
    found = {(d.dataset, d.shots): d.gain.percent(signed=True) for d in differences}
    datasets = dict.fromkeys(difference.dataset for difference in differences)
    header = ["dataset", *map(shots_title, shots)]
    return [header, *([d, *(found.get((d, s), "") for s in shots)] for d in datasets)]


def chosen_lines(fits: Sequence[Fitted], searches: Sequence[CellSearch]) -> Lines:
    """One line per cell: what its search chose and, seed by seed, which head answers."""
    header = ["dataset", "method", "shots", "trials", "chosen by the search", "val %", "head"]
    return [
        header,
        *(_chosen([fit for fit in fits if fit.cell == of.cell], of) for of in searches),
    ]


def _chosen(fits: Sequence[Fitted], search: CellSearch) -> list[str]:
    """fits: of one cell, one per seed."""
    first = fits[0]
    trials = [f"{n} {state}" for state, n in search.states.items()]
    values = [f"{name} {_short(first.hyper[name])}" for name in search.names]
    return [
        first.dataset,
        first.method,
        str(first.shots),
        ", ".join(trials),
        ", ".join(values),
        " · ".join(f"{100 * f.val_accuracy:.1f}" for f in fits if f.val_accuracy is not None),
        " · ".join(map(_head, fits)),
    ]


def _head(fit: Fitted) -> str:
    return f"{fit.head} {fit.fusion_weight:.2f}" if fit.head == "fused" else fit.head


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
