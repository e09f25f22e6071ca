"""What a job says of a dataset at its end: its size, what it left out, which names are equal."""

from cluster.catalog.dataset import Dataset
from cluster.catalog.names import equal_names

REASONS_SHOWN, PATHS_SHOWN, NAMES_SHOWN = 4, 3, 6


def closing_lines(dataset: Dataset) -> list[str]:
    """One line of counts, and what was rejected with the first paths of each reason; and one line
    that says which classes have equal names, if any have."""
    title, rows = f"dataset {dataset.name}", dataset.artifact.manifest.rows
    classes = f" of {len(dataset.concepts)} classes" if dataset.labelled else ""
    rejected = f"; {_rejected(dataset)}" if rows["rejected"] else ""
    lines = [f"{title}: {rows['rows']} images{classes}, {rows['rejected']} rejected{rejected}"]
    names = [concept.name for concept in dataset.concepts]
    if groups := equal_names(names):
        shown = "; ".join(
            ", ".join(f"{names[label]!r} (label {label})" for label in group)
            for group in groups[:NAMES_SHOWN]
        )
        more = f"; and {len(groups) - NAMES_SHOWN} more" if len(groups) > NAMES_SHOWN else ""
        lines.append(
            f"{title}: names that are equal, or but for case and spaces, of different classes: "
            f"{shown}{more}; a text tells such classes not apart"
        )
    return ["".join(c if c.isprintable() else " " for c in line) for line in lines]


def _rejected(dataset: Dataset) -> str:
    """The most frequent reasons, each with its number and first paths."""
    paths: dict[str, list[str]] = {}
    for row in dataset.rejected.select(["path", "reason"]).to_pylist():
        paths.setdefault(row["reason"], []).append(row["path"] or "a row without path")
    ordered = sorted(paths.items(), key=lambda item: -len(item[1]))
    parts = []
    for reason, of_reason in ordered[:REASONS_SHOWN]:
        more = ", …" if len(of_reason) > PATHS_SHOWN else ""
        parts.append(f"{len(of_reason)} {reason} ({', '.join(of_reason[:PATHS_SHOWN])}{more})")
    if left := sum(len(of_reason) for _, of_reason in ordered[REASONS_SHOWN:]):
        parts.append(f"{left} for other reasons")
    return "; ".join(parts)
