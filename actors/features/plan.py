"""The plan of an encoding: what each image becomes, before any is looked at."""

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from actors.features.selection import Selection
from actors.features.store import INDEX_COLUMNS
from actors.pictures.base_set import BaseSetRows
from actors.pictures.places import PLACE, image_places
from cluster.catalog.dataset import Dataset
from cluster.catalog.names import composed

EVERYTHING = Selection()


def encoding_plan(
    dataset: Dataset,
    base_set: BaseSetRows | None,
    views: dict[str, int],
    selection: Selection = EVERYTHING,
) -> pa.Table:
    """One row per selected image: where it is, how many views of it, and what the index says of it.

    An imagined image of a name (NFC) that two classes have belongs to neither.
    """
    names = [composed(concept.name) for concept in dataset.concepts]
    classes = Counter(names)
    label = {name: i for i, name in enumerate(names) if classes[name] == 1}
    columns = ["label", "class_name", "split", "caption"]
    rows = image_places(dataset.artifact, columns, pc.scalar(True)).to_pylist()
    if base_set:
        ours = base_set.usable & (pc.field("dataset") == dataset.name)
        imagined = image_places(base_set.artifact, ["class_name", "caption"], ours).to_pylist()
        rows += [
            row | {"split": "imagined", "label": label[composed(row["class_name"])]}
            for row in imagined
            if composed(row["class_name"]) in label
        ]
    rows = selection.rows(dataset, rows)
    for row in rows:
        row |= {"caption": row["caption"] or "", "views": views[row["split"]]}
    schema = pa.schema(
        [(name, pa.int32() if name in ("label", "views", "place") else pa.string())
         for name in (*INDEX_COLUMNS, *PLACE, "views")]
    )  # fmt: skip
    return pa.Table.from_pylist(rows, schema)
