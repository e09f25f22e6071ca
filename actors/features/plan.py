"""The plan of an encoding: what each image becomes, before any is looked at."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.features.selection import Selection
from actors.pictures.base_set import BaseSetRows
from actors.pictures.places import PLACE, image_places, in_one_piece
from cluster.catalog.dataset import Dataset
from cluster.catalog.names import composed
from cluster.rows import PACKED

SPLITS = ("train", "val", "test", "imagined")
INDEX_COLUMNS = ("id", "label", "class_name", "split", "caption")
EVERYTHING = Selection()
_TEXT = pa.dictionary(pa.int32(), pa.large_string())
_TYPES = {"id": PACKED} | dict.fromkeys(("label", "views", "place"), pa.int32())
SCHEMA = pa.schema([(n, _TYPES.get(n, _TEXT)) for n in (*INDEX_COLUMNS, *PLACE, "views")])
"""Columns of a plan."""


def encoding_plan(
    dataset: Dataset,
    base_set: BaseSetRows | None,
    views: Mapping[str, int],
    selection: Selection = EVERYTHING,
) -> pa.Table:
    """One row per selected image: where it is, how many views of it, and what the index says of it.

    Real images in order of id, then imagined ones in order of id. One of a name (NFC) that two
    classes have belongs to neither. Columns: SCHEMA, the ids as `texts_of_ids` reads them. Takes 48
    bytes a row, and its caption once for all of its pictures.
    """
    columns = ["label", "class_name", "split", "caption"]
    rows = _typed(image_places(dataset.artifact, columns, pc.scalar(True)), views)
    if base_set:
        rows = pa.concat_tables([rows, _typed(_imagined(dataset, base_set), views)])
    rows = selection.rows(dataset, rows)
    for number, name in enumerate(rows.column_names):  # no column but this one is there twice
        rows = rows.set_column(number, name, in_one_piece(rows[name]))
    return rows


def _imagined(dataset: Dataset, base_set: BaseSetRows) -> pa.Table:
    """The imagined images of the dataset's classes, with their labels."""
    names = [composed(concept.name) for concept in dataset.concepts]
    classes = Counter(names)
    label = {name: i for i, name in enumerate(names) if classes[name] == 1}
    ours = base_set.usable & (pc.field("dataset") == dataset.name)
    rows = image_places(base_set.artifact, ["class_name", "caption"], ours)
    written = in_one_piece(rows["class_name"])
    labels = pa.array([label.get(composed(n)) for n in written.dictionary.to_pylist()], pa.int32())
    of_rows = labels.take(written.indices)
    rows = rows.append_column("label", of_rows)
    rows = rows.filter(of_rows.is_valid()) if of_rows.null_count else rows
    return rows.append_column("split", _repeated("imagined", len(rows)))


def _typed(rows: pa.Table, views: Mapping[str, int]) -> pa.Table:
    """The rows with all columns of SCHEMA, as it says them."""
    captions = _filled(in_one_piece(rows["caption"]))
    rows = rows.set_column(rows.schema.get_field_index("caption"), "caption", captions)
    splits = in_one_piece(rows["split"])
    counts = pa.array([views[split] for split in splits.dictionary.to_pylist()], pa.int32())
    return (
        rows.append_column("views", counts.take(splits.indices)).select(SCHEMA.names).cast(SCHEMA)
    )


def _filled(texts: pa.DictionaryArray) -> pa.DictionaryArray:
    """With an empty text where there is none."""
    if not texts.null_count:
        return texts
    indices = pc.fill_null(texts.indices, len(texts.dictionary))
    empty = pa.array([""], texts.dictionary.type)
    return pa.DictionaryArray.from_arrays(indices, pa.concat_arrays([texts.dictionary, empty]))


def _repeated(text: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(
        np.zeros(count, np.int32), pa.array([text], pa.large_string())
    )
