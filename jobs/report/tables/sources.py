"""What the results come from: splits, choices of a search, artifacts, refused rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cluster.artifacts import Artifact
from jobs.report.sources import Refusal
from jobs.report.statistics.scores import Score
from jobs.report.statistics.searches import CellSearch, FittedModel
from jobs.report.tables.table import Table, Value


def split_table(scores: Iterable[Score]) -> Table:
    """The drawn shots behind the results, by their hash."""
    splits = dict.fromkeys((s.dataset, s.method, s.shots, s.seed, s.split_hash) for s in scores)
    header = ["dataset", "method", "shots", "seed", "split"]
    return Table(header, [list(split) for split in splits if split[-1]], names=5)


def chosen_table(fits: Iterable[FittedModel], searches: Sequence[CellSearch]) -> Table:
    """One line per cell: what its search chose and, seed by seed, which head answers."""
    fits_of: dict[str, list[FittedModel]] = {search.cell: [] for search in searches}
    for fit in fits:
        fits_of[fit.cell].append(fit)
    header = ["dataset", "method", "shots", "trials", "chosen by the search", "val %", "head"]
    lines = [_chosen(fits_of[search.cell], search) for search in searches]
    return Table(header, lines, names=7)


def _chosen(fits: Sequence[FittedModel], search: CellSearch) -> list[Value]:
    """fits: of one cell, one per seed."""
    first = fits[0]
    trials = [f"{n} {state}" for state, n in search.states.items()]
    values = [f"{name} {_short(first.hyper[name])}" for name in search.names]
    return [
        first.dataset,
        first.method,
        first.shots,
        ", ".join(trials),
        ", ".join(values),
        " · ".join(f"{100 * f.val_accuracy:.1f}" for f in fits if f.val_accuracy is not None),
        " · ".join(map(_head, fits)),
    ]


def _head(fit: FittedModel) -> str:
    return f"{fit.head} {fit.fusion_weight:.2f}" if fit.head == "fused" else fit.head


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def artifact_table(artifacts: Mapping[str, Artifact]) -> Table:
    """One line per artifact; artifacts: by their role."""
    lines: list[list[Value]] = []
    for role, artifact in artifacts.items():
        manifest = artifact.manifest
        counts, seeds = (
            ", ".join(f"{name} {n:,}" for name, n in pairs.items())
            for pairs in (manifest.rows, manifest.seeds)
        )
        name = f"{manifest.kind} / {manifest.name}"
        lines.append([role, name, made_at(artifact), counts, seeds, manifest.content_hash[:12]])
    return Table(["role", "artifact", "made", "rows", "seeds", "hash"], lines, names=6)


def made_at(artifact: Artifact) -> str:
    """When it was complete, to the minute; manifests are in UTC."""
    return artifact.manifest.created[:16].replace("T", " ") + " UTC"


def refusal_table(refusals: Iterable[Refusal]) -> Table:
    """One line per place and reason."""
    lines: list[list[Value]] = [[r.where, r.reason, r.rows] for r in refusals]
    return Table(["where", "reason", "rows"], lines, names=2)
