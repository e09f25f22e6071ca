"""Tokens in the files of encoders become arrays in order, whatever a killed run has left."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from actors.features.store import INDEX_COLUMNS, TOKENS, FeatureStore, write_features
from cluster.artifacts import WORK, draft
from cluster.files import PARTIAL

VIEWS = {"train": 2, "val": 1, "test": 1, "imagined": 1}
SHAPE = (3, 2)
SPLIT_OF = {"a": "train", "b": "train", "c": "val", "d": "test", "bad": "test"}


def tokens_of(row: str) -> np.ndarray:
    """(V, T, D): other numbers for each row and view."""
    views = VIEWS[SPLIT_OF[row]]
    return (np.arange(views * 6) + 100 * ord(row[0])).reshape(views, *SHAPE).astype(np.float16)


@pytest.mark.parametrize("files", [["ab", "cd"], ["dcba"], ["b", "d", "a", "c", "a"]])
def test_every_row_lies_at_its_place_in_the_order_of_the_plan(
    tmp_path: Path, files: list[str]
) -> None:
    """Encoders write in any order, other datasets' rows among them, and one twice after a kill."""
    encoded, out = (
        draft(str(tmp_path), kind, "toy", config=None, inputs={}) for kind in ("tokens", "features")
    )
    for number, letters in enumerate(files):
        ids = [*letters, "bad"] if not number else [*letters]
        data = [tokens_of(row).tobytes() if row != "bad" else b"" for row in ids]
        reasons = ["no image" if row == "bad" else "" for row in ids]
        table = {"id": ids, "tokens": data, "reason": reasons}
        encoded.write_table(f"{TOKENS}/{number}", pa.table(table))
    others = {"id": ["z"], "tokens": [b"other"], "reason": [""]}
    encoded.write_table(f"{TOKENS}/others", pa.table(others))
    left = Path(out.uri, WORK, f"killed{PARTIAL}")
    left.mkdir(parents=True)
    (left / "train.npy").write_bytes(b"half")
    columns = {name: ["x"] * len(SPLIT_OF) for name in INDEX_COLUMNS}
    columns |= {"id": list(SPLIT_OF), "split": list(SPLIT_OF.values())}
    plan = pa.table(columns | {"label": pa.array([0] * len(SPLIT_OF), pa.int32())})
    counts = write_features(out, encoded, plan, VIEWS, SHAPE)
    assert not left.exists()
    expected = {"train": 2, "val": 1, "test": 1, "imagined": 0, "index": 4, "rejected": 1}
    assert counts == expected
    store = FeatureStore(out.publish(counts, {"backbone": "x", "weights_hash": "x"}).uri)
    assert store.ids("train") == ["a", "b"]
    for split, ids in (("train", ["a", "b"]), ("val", ["c"]), ("test", ["d"])):
        tokens = store.features(split).tokens.numpy()
        assert np.array_equal(tokens, np.stack([tokens_of(row) for row in ids], axis=1))
    assert store.features("imagined").tokens.shape == (1, 0, *SHAPE)
    assert not list(store.artifact.changed())
