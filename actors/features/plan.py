"""The plan of an encoding: what each image becomes, before any is looked at."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.features.selection import Selection
from actors.pictures.base_set import BaseSetRows
from actors.pictures.places import PLACE, image_places
from cluster.catalog.dataset import Dataset
from cluster.catalog.names import composed

SPLITS = ("train", "val", "test", "imagined")
INDEX_COLUMNS = ("id", "label", "class_name", "split", "caption")
EVERYTHING = Selection()
_NUMBERS = ("label", "views", "place")
SCHEMA = pa.schema(
    [
        (name, pa.int32() if name in _NUMBERS else pa.string())
        for name in (*INDEX_COLUMNS, *PLACE, "views")
    ]
)
"""Columns of a plan."""


def encoding_plan(
    dataset: Dataset,
    base_set: BaseSetRows | None,
    views: Mapping[str, int],
    selection: Selection = EVERYTHING,
) -> pa.Table:
    """One row per selected image: where it is, how many views of it, and what the index says of it.

    Real images in order of id, then imagined ones in order of id. One of a name (NFC) that two
    classes have belongs to neither. Columns: SCHEMA. Takes about 400 bytes a row.
    """
    columns = ["label", "class_name", "split", "caption"]
    parts = [image_places(dataset.artifact, columns, pc.scalar(True))]
    if base_set:
        parts.append(_imagined(dataset, base_set))
    parts = [_typed(part, views) for part in parts]
    return selection.rows(dataset, pa.concat_tables(parts))


def _imagined(dataset: Dataset, base_set: BaseSetRows) -> pa.Table:
    """The imagined images of the dataset's classes, with their labels."""
    names = [composed(concept.name) for concept in dataset.concepts]
    classes = Counter(names)
    label = {name: i for i, name in enumerate(names) if classes[name] == 1}
    ours = base_set.usable & (pc.field("dataset") == dataset.name)
    rows = image_places(base_set.artifact, ["class_name", "caption"], ours)
    written = pc.unique(rows["class_name"])  # few, however many images there are
    labels = pa.array([label.get(composed(name)) for name in written.to_pylist()], pa.int32())
    of_rows = labels.take(pc.index_in(rows["class_name"], written))
    rows = rows.append_column("label", of_rows).filter(pc.is_valid(of_rows))
    return rows.append_column("split", pa.repeat("imagined", len(rows)))


def _typed(rows: pa.Table, views: Mapping[str, int]) -> pa.Table:
    """The rows with all columns of SCHEMA, as it says them."""
    captions = pc.fill_null(rows["caption"].cast(pa.string()), "")
    rows = rows.set_column(rows.schema.get_field_index("caption"), "caption", captions)
    splits, counts = pa.array(list(views)), pa.array(np.array(list(views.values())))
    rows = rows.append_column("views", counts.take(pc.index_in(rows["split"], splits)))
    return rows.select(SCHEMA.names).cast(SCHEMA)
