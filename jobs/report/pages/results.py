"""The page of results: what it shows, and the tables behind it."""

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from actors.curation.decisions import REASONS
from cluster.artifacts import Artifact
from cluster.errors import ConfigError
from jobs.report.figures.scores import accuracy_figure, difference_figure, fusion_figure
from jobs.report.figures.searches import cost_figure, history_figure, importance_figure
from jobs.report.figures.sources import curation_figure, pretraining_figure
from jobs.report.pages.curation import CurationSection, curation_section
from jobs.report.pages.gallery import gallery
from jobs.report.pages.render import picture, render
from jobs.report.sources import (
    Refusal,
    confusions,
    fitted_models,
    head_scores,
    known_measures,
    measures_of,
    pretraining_metrics,
    protocol,
    refusals,
    result_scores,
    trials,
    versions,
)
from jobs.report.statistics.classes import ClassScore, class_scores, hardest_classes
from jobs.report.statistics.differences import (
    Difference,
    against_zero_shot,
    all_paired,
    paired,
    paired_over_datasets,
    verdict,
)
from jobs.report.statistics.scores import (
    AVERAGE,
    Score,
    Summary,
    few_shot_scores,
    summaries,
    with_average,
    with_h_mean,
)
from jobs.report.statistics.searches import (
    CellSearch,
    FittedModel,
    cell_records,
    cell_searches,
    importances,
)
from jobs.report.tables.results import (
    ACCURACY,
    MeasureTables,
    difference_records,
    difference_table,
    hardest_table,
    measure_tables,
    sentence,
    shots_table,
    summary_records,
)
from jobs.report.tables.sources import (
    artifact_table,
    chosen_table,
    made_at,
    refusal_table,
    split_table,
)
from jobs.report.tables.table import Table

HARDEST = 12
"""Classes that the page shows."""


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
    table: Table


@dataclass(frozen=True)
class ResultsPage:
    """What was measured. Raises ConfigError if a compared method is unknown."""

    results: Artifact
    adapted: Artifact | None
    """Whose models the results are of; None where no one search made them."""
    others: dict[str, Artifact] = field(default_factory=dict)
    """Further artifacts by their role; "teacher", "base_set" and "curation" have sections of their
    own."""
    comparison: Comparison | None = None

    def __post_init__(self) -> None:
        methods = sorted({score.method for score in self.scores})
        for name, method in (asdict(self.comparison) if self.comparison else {}).items():
            if method not in methods:
                raise ConfigError(
                    f"{name}: {method!r} has no result; allowed: {', '.join(methods)}"
                )

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """All artifacts by their role."""
        adapted = {"adapted": self.adapted} if self.adapted else {}
        return {"results": self.results, **adapted, **self.others}

    @cached_property
    def scores(self) -> list[Score]:
        """Of every measure, with H-means and averages."""
        return with_average(with_h_mean(result_scores(self.results)))

    @cached_property
    def cells(self) -> list[Summary]:
        """Accuracy of methods that learned all classes, over all classes."""
        few_shot = few_shot_scores(self.scores)
        return summaries(score for score in few_shot if score.measure == ACCURACY)

    @cached_property
    def measures(self) -> list[MeasureTables]:
        """The tables of every measure that the results hold."""
        return [measure_tables(self.scores, measure) for measure in measures_of(self.scores)]

    @cached_property
    def of_heads(self) -> dict[str, list[Score]]:
        """Accuracy of methods that learned all classes, over all classes, by head."""
        of_heads: dict[str, list[Score]] = defaultdict(list)
        for head, score in head_scores(self.results):
            if score.measure == ACCURACY:
                of_heads[head].append(score)
        return {head: few_shot_scores(scores) for head, scores in of_heads.items()}

    @cached_property
    def heads(self) -> Table | None:
        """Accuracy of each head against shots, averaged over datasets where they are several."""
        methods = dict.fromkeys(score.method for of in self.of_heads.values() for score in of)
        named = [
            score._replace(method=f"{method}, {head}")
            for method in methods
            for head, scores in self.of_heads.items()
            for score in scores
            if score.method == method
        ]
        cells = summaries(with_average(named))
        averages = [cell for cell in cells if cell.dataset == AVERAGE] or cells
        seeds = len({score.seed for score in named})
        return shots_table(averages, known_measures()[ACCURACY], seeds) if averages else None

    @cached_property
    def differences(self) -> list[Difference]:
        """Of accuracy, between the compared methods."""
        if self.comparison is None:
            return []
        few_shot = [s for s in few_shot_scores(self.scores) if s.measure == ACCURACY]
        return paired(few_shot, self.comparison.compare, self.comparison.against)

    @cached_property
    def head_differences(self) -> dict[str, list[Difference]]:
        """Of accuracy, between the compared methods, by head; shots ascend.

        None of a single dataset, over which there is no interval.
        """
        if self.comparison is None:
            return {}
        lines = {
            head: sorted(
                paired_over_datasets(scores, self.comparison.compare, self.comparison.against),
                key=lambda difference: difference.shots,
            )
            for head, scores in self.of_heads.items()
        }
        return {f"{h} head": line for h, line in lines.items() if line and line[0].gain.n > 1}

    @cached_property
    def classes(self) -> list[ClassScore]:
        """Every class of every cell."""
        return class_scores(confusions(self.results))

    @cached_property
    def hardest(self) -> Hardest | None:
        """Of the best method on average over datasets, or on the only one, with most shots."""
        cells = [cell for cell in self.cells if cell.shots]
        averages = [cell for cell in cells if cell.dataset == AVERAGE] or cells
        best = max(averages, key=lambda cell: (cell.shots, cell.estimate.mean), default=None)
        if best is None:
            return None
        classes = hardest_classes(self.classes, best.method, best.shots, HARDEST)
        return Hardest(best.method, best.shots, hardest_table(classes))

    @cached_property
    def fits(self) -> list[FittedModel]:
        """Every model of the search."""
        return fitted_models(self.adapted) if self.adapted else []

    @cached_property
    def refusals(self) -> list[Refusal]:
        """Rows that the artifacts left out."""
        kinds = ("images", "curation", "dataset", "features", "adapted")
        return refusals(a for a in self.artifacts.values() if a.manifest.kind in kinds)

    @cached_property
    def curation(self) -> CurationSection | None:
        """What was kept of the base set."""
        if "curation" not in self.others:
            return None
        datasets = [a for a in self.others.values() if a.manifest.kind == "dataset"]
        return curation_section(self.others["curation"], self.others["base_set"], datasets)

    @cached_property
    def fused(self) -> list[FittedModel]:
        """The fits whose fusion curves are shown.

        Of one method, the compared one if it has any, with most shots, on every dataset.
        """
        curved = [fit for fit in self.fits if fit.curve]
        named = [fit for fit in curved if self.comparison and fit.method == self.comparison.compare]
        shown = max(named or curved, key=lambda fit: fit.shots, default=None)
        return [f for f in curved if shown and (f.method, f.shots) == (shown.method, shown.shots)]

    @cached_property
    def searches(self) -> list[CellSearch]:
        """Every cell's search."""
        return cell_searches(self.fits, trials(self.adapted)) if self.adapted else []

    @cached_property
    def importances(self) -> dict[str, dict[str, float]]:
        """By method and hyper-parameter."""
        settings = self.adapted.manifest.config if self.adapted else {}
        return importances(self.searches, settings.get("methods", {}))

    @cached_property
    def figures(self) -> dict[str, bytes]:
        """PNG by name."""
        figures = {}
        if self.cells:
            figures["accuracy"] = accuracy_figure(self.cells)
        if self.head_differences:
            figures["differences"] = difference_figure(self.head_differences)
        if "teacher" in self.others and (metrics := pretraining_metrics(self.others["teacher"])):
            figures["pretraining"] = pretraining_figure(metrics)
        if "curation" in self.others:
            figures["curation"] = curation_figure(self.others["curation"].read_table("decisions"))
        if self.fused:
            figures["fusion"] = fusion_figure(self.fused)
        if searched := [cell for cell in self.searches if cell.best_so_far]:
            figures["history"] = history_figure(searched)
        if self.importances:
            figures["importance"] = importance_figure(self.importances)
        if self.searches:
            figures["cost"] = cost_figure(self.searches)
        return figures

    def tables(self) -> dict[str, Table]:
        """The numbers behind the page, unrounded; those without lines are left out."""
        shares = [
            {"method": method, "hyper_parameter": name, "share": share}
            for method, of_method in self.importances.items()
            for name, share in of_method.items()
        ]
        names = [tables.measure.name for tables in self.measures]
        tables = {name: Table.of(summary_records(self.scores, name)) for name in names}
        tables |= {
            "paired": Table.of(difference_records(all_paired(few_shot_scores(self.scores)))),
            "classes": Table.of([asdict(score) for score in self.classes]),
            "splits": split_table(self.scores),
            "cells": Table.of(cell_records(self.searches)),
            "importance": Table.of(shares),
            "refused": refusal_table(self.refusals),
            "curation": Table.of(self.curation.summary["classes"] if self.curation else []),
            "contamination": Table.of(self.curation.contamination if self.curation else []),
        }
        return {name: table for name, table in tables.items() if table.lines}

    def shown_tables(self) -> dict[str, Table]:
        """The page's tables of results by name, rounded."""
        tables = {name: t for measure in self.measures for name, t in measure.by_name().items()}
        tables |= {"heads": self.heads} if self.heads else {}
        return tables | ({"paired": self._difference_table()} if self.differences else {})

    def _difference_table(self) -> Table:
        return difference_table(self.differences, known_measures()[ACCURACY])

    def html(self, captions: int, seed: int) -> str:
        """The page; captions: how many of the base set are shown, drawn by the seed."""
        base_set = self.others.get("base_set")
        items = gallery(base_set, captions, seed) if base_set else []
        facts = self._facts() | {"gallery": items}
        return render("results.html.j2", facts | {"sections": self._sections(facts)})

    def _facts(self) -> dict[str, Any]:
        """What the page says and shows, by the names that its template uses."""
        compared = asdict(self.comparison) if self.comparison else {}
        return {
            "protocol": protocol(self.results),
            "made": made_at(self.results),
            "artifacts": artifact_table(self.artifacts),
            "versions": versions(self.artifacts.values()),
            "splits": split_table(self.scores),
            "accuracy": measure_tables(self.scores, known_measures()[ACCURACY]),
            "heads": self.heads,
            "below_zero_shot": against_zero_shot(self.cells),
            "verdict": verdict(self.differences, **compared) if self.differences else "",
            "differences": self._difference_table(),
            "measures": [m for m in self.measures if m.measure.name != ACCURACY],
            "hardest": self.hardest,
            "curation": self.curation,
            "reasons": REASONS,
            "fused": self.fused[:1],
            "worker_hours": sum(cell.seconds for cell in self.searches) / 3600,
            "chosen": chosen_table(self.fits, self.searches),
            "refusals": refusal_table(self.refusals),
            "pictures": {name: picture(png) for name, png in self.figures.items()},
        }

    def _sections(self, facts: dict[str, Any]) -> dict[str, str]:
        """What a link to each section that there is says, by its anchor."""
        compared = self.comparison
        halves = facts["accuracy"].generalisation
        sections = {
            "run": "What was run",
            "accuracy": "Accuracy against shots",
            "heads": "Visual, text and fused head" if self.heads else "",
            "paired": f"{compared.compare} minus {compared.against}" if compared else "",
            **{half: f"{half} against {other}" for half, other in halves},
            **{m.measure.name: sentence(m.measure.title) for m in facts["measures"]},
            "classes": "Hardest classes" if self.hardest else "",
            "gallery": "Imagined images" if facts["gallery"] else "",
            "curation": "Curation" if self.curation else "",
            "pretraining": "Pretraining" if "pretraining" in self.figures else "",
            "fusion": "Fusion weight" if self.fused else "",
            "search": "Search" if self.searches else "",
            "chosen": "Chosen hyper-parameters" if self.searches else "",
            "refused": "Refused rows",
        }
        return {anchor: text for anchor, text in sections.items() if text}
