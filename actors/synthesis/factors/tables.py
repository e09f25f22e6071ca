"""Tables of factors, one row per class: from the embedded table, from a file written by hand
(docs/factor_tables.md), or from a language model's answers."""

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from actors.embedded.sprite_factors import factor_table
from actors.synthesis.factors.drawing import MODE_SHARES
from cluster.catalog.dataset import Dataset
from cluster.catalog.names import composed
from cluster.errors import ConfigError
from cluster.text_files import read_text

LISTS = ("attributes", "backgrounds", "viewpoints", "lightings", "degradations")
MODES = tuple(MODE_SHARES)
_PHRASES = pa.list_(pa.string())
CLASSES_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("dataset", "class_name")),
        ("label", pa.int64()),
        *((name, pa.string()) for name in ("group", "hint")),
        *((name, _PHRASES) for name in (*LISTS, "synonyms")),
        ("examples", pa.struct([(mode, _PHRASES) for mode in MODES])),
    ]
)
"""Every list may be empty; backgrounds come most frequent first; examples are captions by mode."""

Lists = Mapping[str, Any]
"""Some of LISTS and, for one class, `synonyms` and `examples` (mode to captions)."""

_PHRASE_LIST = {"type": "array", "items": {"type": "string", "pattern": r"\S"}}
_FOR_ALL = dict.fromkeys(LISTS, _PHRASE_LIST)
_EXAMPLES = {
    "type": "object",
    "properties": dict.fromkeys(MODES, _PHRASE_LIST),
    "additionalProperties": False,
}
_FOR_ONE = _FOR_ALL | {"synonyms": _PHRASE_LIST, "examples": _EXAMPLES}


def _by_name(properties: Mapping[str, Any]) -> dict[str, Any]:
    lists = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"type": "object", "additionalProperties": lists}


_FILE = Draft202012Validator(
    {
        "type": "object",
        "properties": _FOR_ALL | {"datasets": _by_name(_FOR_ALL), "classes": _by_name(_FOR_ONE)},
        "additionalProperties": False,
    }
)


def read_factor_file(path: str, datasets: Sequence[Dataset]) -> dict[str, Any]:
    """A table written by hand for these datasets, or some of their classes.

    Raises ConfigError that names the field, if it is not one, or names what is not there.
    """
    try:
        # Every scalar is a string: a class may be called 8, no or 2026-01-01.
        table = yaml.load(read_text(path, "table"), Loader=yaml.BaseLoader)
    except (RecursionError, yaml.YAMLError) as unread:
        why = " ".join(str(unread).split())
        raise ConfigError(f"table: {path!r} cannot be read ({why}); allowed: YAML, UTF-8") from None
    if error := best_match(_FILE.iter_errors(table)):
        raise ConfigError(
            f"table: {path!r}, {error.json_path}: {error.message:.200}; "
            "allowed: as docs/factor_tables.md says"
        )
    known = {
        "datasets": {dataset.name for dataset in datasets},
        "classes": {composed(c.name) for dataset in datasets for c in dataset.concepts},
    }
    for section, names in known.items():
        asked = list(map(composed, table.get(section, {})))
        if twice := next((name for name in asked if asked.count(name) > 1), None):
            raise ConfigError(
                f"table: {path!r}, {section}: {twice!r} is there twice, composed otherwise; "
                "allowed: each name once"
            )
        for name in table.get(section, {}):
            if composed(name) not in names:
                raise ConfigError(
                    f"table: {path!r}, {section}: {name!r} is none of the job's; "
                    f"allowed: {', '.join(sorted(names)):.200}"
                )
    return table


def embedded_table() -> dict[str, Any]:
    """The embedded factors in the form of a file; a dataset that it does not name takes all
    backgrounds."""
    table = factor_table()
    places = table["dataset_backgrounds"].items()
    return {name: list(table[name]) for name in LISTS} | {
        "datasets": {name: {"backgrounds": backgrounds} for name, backgrounds in places}
    }


def table_rows(datasets: Sequence[Dataset], table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row of CLASSES_SCHEMA per class: the table's lists for all classes, those of its
    dataset, or its own; the most specific one wins."""
    by_class = {composed(name): lists for name, lists in table.get("classes", {}).items()}
    of_dataset = table.get("datasets", {})
    return [
        row
        for dataset in datasets
        for row in class_rows(dataset, {**table, **of_dataset.get(dataset.name, {})}, by_class)
    ]


def answered_rows(
    datasets: Sequence[Dataset], answers: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row of CLASSES_SCHEMA per class, from the good ones among the answers.

    answers: of `actors.synthesis.factors.asker.ask_in_rounds`, examples of a mode in order of
    index.
    """
    rows = []
    for dataset in datasets:
        shared: dict[str, Any] = {}
        by_class: dict[str, Any] = {composed(c.name): {"examples": {}} for c in dataset.concepts}
        for answer in answers:
            if answer["dataset"] != dataset.name or answer["reason"]:
                continue
            phrases = json.loads(answer["phrases"])
            lists = by_class[composed(answer["class_name"])] if answer["class_name"] else shared
            if answer["kind"] == "example":
                lists["examples"].setdefault(answer["mode"], []).extend(phrases)
            else:
                lists[answer["kind"]] = phrases
        rows += class_rows(dataset, shared, by_class)
    return rows


def class_rows(
    dataset: Dataset, shared: Lists, by_class: Mapping[str, Lists]
) -> list[dict[str, Any]]:
    """One row of CLASSES_SCHEMA per class of the dataset, in order of label; classes of one name
    share the first one's.

    shared: lists of all classes. by_class: by class name (NFC), lists that replace the shared ones.
    """
    rows = []
    names = [concept.name for concept in dataset.concepts]
    for label, concept in enumerate(dataset.concepts):
        if names.index(concept.name) < label:
            continue
        lists = {**shared, **by_class.get(composed(concept.name), {})}
        examples = lists.get("examples", {})
        rows.append(
            {
                "dataset": dataset.name,
                "class_name": concept.name,
                "label": label,
                "group": concept.group,
                "hint": dataset.hint,
                **{name: clean_phrases(lists.get(name, ())) for name in (*LISTS, "synonyms")},
                "examples": {mode: clean_phrases(examples.get(mode, ())) for mode in MODES},
            }
        )
    return rows


def clean_phrases(phrases: Iterable[str]) -> list[str]:
    """Composed (NFC), on one line, trimmed; without empty ones and repeats (in whatever case)."""
    lines: dict[str, str] = {}
    for phrase in phrases:
        line = " ".join(composed(phrase).split())
        lines.setdefault(line.casefold(), line)
    lines.pop("", None)
    return list(lines.values())


def one_line(text: str) -> str:
    """Outside text as a part of a prompt: in one line, without control characters (also those that
    turn the direction of writing), and without a quotation mark that would end its own."""
    characters = (
        " " if character.isspace() else character
        for character in composed(text)
        if character.isspace() or unicodedata.category(character)[0] != "C"
    )
    return " ".join("".join(characters).split()).replace('"', "'").replace("\\", "/")
