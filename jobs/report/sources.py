"""What a report reads from artifacts, as typed rows."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from actors.discovery import measures as of_discovery
from actors.pretraining.state import METRICS
from actors.search import measures as of_test
from actors.search.measures import Measure
from cluster.artifacts import Artifact
from cluster.errors import ConfigError
from cluster.folder import Folder
from cluster.storage import read
from jobs.report.statistics.classes import Confusion
from jobs.report.statistics.scores import Score
from jobs.report.statistics.searches import FittedModel, Trial
from models.methods.adapted import CARD

VAL_POLICIES = {
    "none": "no validation images",
    "min": "min(shots, 4) validation images per class",
    "full": "all validation images",
}


def known_measures() -> dict[str, Measure[Any]]:
    """All that artifacts may hold, by name, in the order of pages."""
    return {**of_test.MEASURES, **of_discovery.MEASURES}


def measures_of(scores: Iterable[Score]) -> list[Measure[Any]]:
    """What these scores are of, in the order of pages."""
    names = {score.measure for score in scores}
    return [measure for name, measure in known_measures().items() if name in names]


def result_scores(results: Artifact) -> list[Score]:
    """All scores of a "results" artifact."""
    return _scores(results, "rows", "results")


def head_scores(results: Artifact) -> list[tuple[str, Score]]:
    """Heads of models that have several, with their scores.

    None from results of before there was such a table.
    """
    if not _has(results, "heads"):
        return []
    rows = results.read_table("heads").to_pylist()
    return [(row["head"], Score(**{name: row[name] for name in Score._fields})) for row in rows]


def discovery_scores(discovery: Folder) -> list[Score]:
    """All scores of a "discovery" artifact, which may be a draft still."""
    return _scores(discovery, "metrics", "discovery")


def _scores(folder: Folder, table: str, field: str) -> list[Score]:
    """The rows of a table with `measure` and `value`; what it lacks is a Score's default."""
    columns = folder.open_table(table).schema.names
    if not {"measure", "value"} <= set(columns):
        raise ConfigError(
            f"{field}: {folder.uri!r} was written by an older version, without measures; "
            f"allowed: an artifact of kind {field!r} made now"
        )
    rows = folder.read_table(table, [name for name in Score._fields if name in columns])
    scores = [Score(**row) for row in rows.to_pylist()]
    known = known_measures()
    for name in {score.measure for score in scores} - known.keys():
        raise ConfigError(
            f"{field}: {folder.uri!r} has measure {name!r}; allowed: {', '.join(known)}"
        )
    return scores


def confusions(results: Artifact) -> list[Confusion]:
    """Test images of a "results" artifact by class and answer."""
    if "label" not in results.open_table("confusion").schema.names:
        raise ConfigError(
            f"results: {results.uri!r} was written by an older version, without labels of classes; "
            "allowed: an artifact of kind 'results' made now"
        )
    rows = results.read_table("confusion", list(Confusion._fields))
    return [Confusion(**row) for row in rows.to_pylist()]


@dataclass(frozen=True)
class Protocol:
    """How the results were come by, as their own rows say."""

    shots: list[int]
    """More than 0."""
    seeds: list[int]
    val_policies: list[str]
    """In words."""
    backbones: list[str]
    template_sets: list[str]
    config_hashes: list[str]
    test_images: dict[str, int]
    """Largest number of test images per dataset over the label spaces."""


def protocol(results: Artifact) -> Protocol:
    """Distinct settings over all rows of a "results" artifact."""
    columns = ["shots", "seed", "val_policy", "backbone", "template_set", "config_hash"]
    table = results.read_table("rows", [*columns, "dataset", "images"])

    def distinct(column: str) -> list[Any]:
        return sorted(table[column].unique().drop_null().to_pylist())

    sizes = table.group_by("dataset", use_threads=False).aggregate([("images", "max")])
    return Protocol(
        shots=[shots for shots in distinct("shots") if shots],
        seeds=distinct("seed"),
        val_policies=[VAL_POLICIES[policy] for policy in distinct("val_policy")],
        backbones=distinct("backbone"),
        template_sets=distinct("template_set"),
        config_hashes=distinct("config_hash"),
        test_images=dict(
            zip(sizes["dataset"].to_pylist(), sizes["images_max"].to_pylist(), strict=True)
        ),
    )


def versions(artifacts: Iterable[Artifact]) -> dict[str, str]:
    """Library to its version; all of them where artifacts were made with several."""
    numbers: dict[str, set[str]] = defaultdict(set)
    for artifact in artifacts:
        for library, number in artifact.manifest.versions.items():
            numbers[library].add(number)
    return {library: " / ".join(sorted(numbers[library])) for library in sorted(numbers)}


def pretraining_metrics(teacher: Artifact) -> list[dict[str, float]]:
    """The rows of metrics.jsonl."""
    fs, path = teacher.filesystem()
    return [json.loads(line) for line in read(fs, f"{path}/{METRICS}").decode().splitlines()]


def fitted_models(adapted: Artifact) -> list[FittedModel]:
    """Every model of an "adapted" artifact, in the order of its table `fits`."""
    models = []
    for fit in adapted.read_table("fits").to_pylist():
        card = adapted.read_json(f"models/{fit['cell']}/{fit['seed']}/{CARD}")
        selection = card["selection"]
        model = FittedModel(
            cell=fit["cell"],
            dataset=fit["dataset"],
            method=fit["name"],
            shots=fit["shots"],
            seed=fit["seed"],
            hyper=json.loads(fit["hyper"]),
            val_accuracy=fit["val_accuracy"],
            wall_s=fit["wall_s"],
            head=selection["head"],
            fusion_weight=selection["fusion_weight"],
            curve=[(weight, accuracy) for weight, accuracy in selection["curve"]],
        )
        models.append(model)
    return models


def trials(adapted: Artifact) -> list[Trial]:
    """Every finished trial of an "adapted" artifact."""
    columns = ["cell", "number", "state", "val_accuracy", "values", "wall_s"]
    rows = adapted.read_table("trials", columns).to_pylist()
    return [Trial(**{**row, "values": json.loads(row["values"])}) for row in rows]


@dataclass(frozen=True)
class Refusal:
    """Rows that were left out for one reason."""

    where: str
    reason: str
    rows: int


def refusals(artifacts: Iterable[Artifact]) -> list[Refusal]:
    """Refused rows by reason, most frequent first.

    artifacts: of kinds images, curation, dataset, features and adapted (its failed trials).
    """
    counts: Counter[tuple[str, str]] = Counter()
    for artifact in artifacts:
        where = f"{artifact.manifest.kind} {artifact.manifest.name}"
        counts.update({(where, reason): rows for reason, rows in _reasons(artifact).items()})
    return [Refusal(*key, rows) for key, rows in counts.most_common()]


def _reasons(artifact: Artifact) -> dict[str, int]:
    table, column = {
        "images": ("rows", "reason"),
        "curation": ("decisions", "reason"),
        "dataset": ("rejected", "reason"),
        "features": ("rejected", "reason"),
        "adapted": ("trials", "error"),
    }[artifact.manifest.kind]
    if not _has(artifact, table):
        return {}
    counts = artifact.read_table(table, [column])[column].value_counts().to_pylist()
    return {pair["values"]: pair["counts"] for pair in counts if pair["values"]}


def _has(artifact: Artifact, table: str) -> bool:
    """An artifact without refusals may have no table of them."""
    try:
        artifact.open_table(table)
    except FileNotFoundError:
        return False
    return True
