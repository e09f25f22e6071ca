"""A report put together from its artifacts: what its page shows and its tables hold."""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa

from actors.curation.decisions import REASONS
from cluster.artifacts import Artifact
from cluster.errors import ConfigError
from jobs.report.figures.scores import accuracy_figure, fusion_figure
from jobs.report.figures.searches import cost_figure, history_figure, importance_figure
from jobs.report.figures.sources import curation_figure, pretraining_figure
from jobs.report.pages.curation import Curated, curated
from jobs.report.sources import (
    Fitted,
    Refused,
    fitted,
    pretraining_metrics,
    protocol,
    refusals,
    result_rows,
    versions,
)
from jobs.report.statistics.classes import ClassScore, class_scores, hardest_lines
from jobs.report.statistics.differences import (
    Difference,
    against_zero_shot,
    all_paired,
    paired,
    verdict,
)
from jobs.report.statistics.scores import (
    AVERAGE,
    HALVES,
    Estimate,
    Row,
    few_shot_rows,
    generalisation,
    measured,
    with_average,
    with_h_mean,
)
from jobs.report.statistics.searches import CellSearch, cell_rows, cell_searches, importances
from jobs.report.tables import (
    Lines,
    accuracy_lines,
    artifact_lines,
    as_markdown,
    chosen_lines,
    difference_lines,
    generalisation_lines,
    made_at,
    split_lines,
)


@dataclass(frozen=True)
class Comparison:
    """Two methods whose results are set side by side, seed by seed."""

    compare: str
    against: str


@dataclass(frozen=True)
class Hardest:
    """The classes that one method with these shots gets wrong most often."""

    method: str
    shots: int
    lines: Lines


@dataclass(frozen=True)
class Report:
    """What was measured. Raises ConfigError if a compared method is unknown."""

    results: Artifact
    adapted: Artifact
    others: dict[str, Artifact] = field(default_factory=dict)
    """Further artifacts by their role; "teacher", "base_set" and "curation" have sections of their
    own."""
    comparison: Comparison | None = None

    def __post_init__(self) -> None:
        methods = sorted({row.method for row in self.rows})
        for name, method in (asdict(self.comparison) if self.comparison else {}).items():
            if method not in methods:
                raise ConfigError(
                    f"{name}: {method!r} has no result; allowed: {', '.join(methods)}"
                )

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """All artifacts by their role."""
        return {"results": self.results, "adapted": self.adapted, **self.others}

    @cached_property
    def rows(self) -> list[Row]:
        return with_average(with_h_mean(result_rows(self.results)))

    @cached_property
    def differences(self) -> list[Difference]:
        if self.comparison is None:
            return []
        return paired(few_shot_rows(self.rows), self.comparison.compare, self.comparison.against)

    @cached_property
    def groups(self) -> dict[tuple[str, str], Lines]:
        """Methods that learned one half of the classes, on both; none if there are none."""
        found = {halves: generalisation(self.rows, halves) for halves in HALVES}
        return {h: generalisation_lines(lines, h) for h, lines in found.items() if lines}

    @cached_property
    def classes(self) -> list[ClassScore]:
        return class_scores(self.results)

    @cached_property
    def hardest(self) -> Hardest | None:
        """Of the best method on average over datasets, or on the only one, with most shots."""
        cells = [cell for cell in measured(few_shot_rows(self.rows)) if cell.shots]
        averages = [cell for cell in cells if cell.dataset == AVERAGE] or cells
        best = max(averages, key=lambda c: (c.shots, c.accuracy.mean), default=None)
        if best is None:
            return None
        lines = hardest_lines(self.classes, best.method, best.shots)
        return Hardest(best.method, best.shots, lines)

    @cached_property
    def fits(self) -> list[Fitted]:
        return fitted(self.adapted)

    @cached_property
    def refused(self) -> list[Refused]:
        kinds = ("images", "curation", "dataset", "features", "adapted")
        return refusals(a for a in self.artifacts.values() if a.manifest.kind in kinds)

    @cached_property
    def curated(self) -> Curated | None:
        if "curation" not in self.others:
            return None
        datasets = [a for a in self.others.values() if a.manifest.kind == "dataset"]
        return curated(self.others["curation"], self.others["base_set"], datasets)

    @cached_property
    def fused(self) -> list[Fitted]:
        """The fits whose fusion curves are shown: of one method, the compared one if it has any,
        with most shots, on every dataset."""
        curved = [fit for fit in self.fits if fit.curve]
        named = [fit for fit in curved if self.comparison and fit.method == self.comparison.compare]
        shown = max(named or curved, key=lambda fit: fit.shots, default=None)
        return [f for f in curved if shown and (f.method, f.shots) == (shown.method, shown.shots)]

    @cached_property
    def searches(self) -> list[CellSearch]:
        return cell_searches(self.adapted)

    @cached_property
    def importances(self) -> dict[str, dict[str, float]]:
        return importances(self.searches, self.adapted.manifest.config.get("methods", {}))

    def figures(self) -> dict[str, bytes]:
        """PNG by name."""
        made = {}
        if cells := measured(few_shot_rows(self.rows)):
            made["accuracy"] = accuracy_figure(cells)
        if "teacher" in self.others and (metrics := pretraining_metrics(self.others["teacher"])):
            made["pretraining"] = pretraining_figure(metrics)
        if "curation" in self.others:
            made["curation"] = curation_figure(self.others["curation"].read_table("decisions"))
        if self.fused:
            made["fusion"] = fusion_figure(self.fused)
        if searched := [cell for cell in self.searches if cell.best_so_far]:
            made["history"] = history_figure(searched)
        if self.importances:
            made["importance"] = importance_figure(self.importances)
        made["cost"] = cost_figure(self.searches)
        return made

    def facts(self) -> dict[str, Any]:
        """What the page says and shows in lines, by the names that its template uses."""
        cells = measured(few_shot_rows(self.rows))
        compared = (asdict(self.comparison)) if self.comparison else {}
        return {
            "protocol": protocol(self.results),
            "made": made_at(self.results),
            "artifacts": artifact_lines(self.artifacts),
            "versions": versions(self.artifacts.values()),
            "splits": split_lines(self.rows),
            "accuracy": accuracy_lines(cells),
            "below_zero_shot": against_zero_shot(cells),
            "comparison": self.comparison,
            "verdict": verdict(self.differences, **compared) if self.differences else "",
            "differences": difference_lines(self.differences),
            "groups": self.groups,
            "hardest": self.hardest,
            "chosen": chosen_lines(self.fits, self.searches),
            "fused": self.fused[:1],
            "worker_hours": sum(cell.seconds for cell in self.searches) / 3600,
            "refused": self.refused,
            "curated": self.curated,
            "reasons": REASONS,
        }

    def tables(self) -> dict[str, pa.Table]:
        """The numbers behind the page, unrounded."""
        accuracy = [_flat(asdict(cell), "accuracy", cell.accuracy) for cell in measured(self.rows)]
        gains = [
            {"compare": compare, "against": against} | _flat(asdict(d), "gain", d.gain)
            for (compare, against), found in all_paired(few_shot_rows(self.rows)).items()
            for d in found
        ]
        splits = split_lines(self.rows)
        shares = [
            {"method": method, "hyper_parameter": name, "share": share}
            for method, found in self.importances.items()
            for name, share in found.items()
        ]
        tables = {
            "accuracy": accuracy,
            "paired": gains,
            "classes": [asdict(score) for score in self.classes],
            "splits": [dict(zip(splits[0], line, strict=True)) for line in splits[1:]],
            "cells": cell_rows(self.searches),
            "importance": shares,
            "refused": [asdict(refused) for refused in self.refused],
            "curation": self.curated.summary["classes"] if self.curated else [],
            "contamination": self.curated.contamination if self.curated else [],
        }
        return {name: pa.Table.from_pylist(rows) for name, rows in tables.items() if rows}

    def markdown(self) -> dict[str, str]:
        """The page's tables of results, by name."""
        tables = {"accuracy": accuracy_lines(measured(few_shot_rows(self.rows)))}
        tables |= {"_against_".join(h).lower(): lines for h, lines in self.groups.items()}
        if self.differences:
            tables["paired"] = difference_lines(self.differences)
        return {name: as_markdown(lines) for name, lines in tables.items()}


def _flat(row: dict[str, Any], name: str, value: Estimate) -> dict[str, Any]:
    return {key: item for key, item in row.items() if key != name} | _estimate(name, value)


def _estimate(name: str, value: Estimate) -> dict[str, Any]:
    return {name: value.mean, "low": value.low, "high": value.high, "seeds": value.n}
