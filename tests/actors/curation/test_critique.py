"""Plans of a critique: a bounded number of pictures at a time, and all of them together."""

from pathlib import Path

import pyarrow as pa
import pytest

from actors.curation import critique
from actors.curation.critique import PLAN, class_names, critique_plans
from cluster.artifacts import Artifact, draft


def base_set(folder: Path) -> Artifact:
    """Four files of ten rows, of which one is refused."""
    out = draft(str(folder), "images", "toys", config=None, inputs={})
    for number in range(4):
        rows = [
            {
                "id": f"{10 * number + row:032x}",
                "dataset": "toys",
                "class_name": f"class {number}",
                "group": "IP",
                "index": row,
                "view": 0,
                "caption": "" if row == 3 else f"caption {row}",
                "image": b"",
                "reason": "" if row else "not painted",
            }
            for row in range(10)
        ]
        out.write_table(f"rows/{number}", pa.Table.from_pylist(rows))
    return out.publish({"rows": 40, "refused": 4})


@pytest.mark.parametrize(("most", "sizes"), [(1_000, [36]), (12, [18, 18]), (1, [9, 9, 9, 9])])
def test_plans_are_of_whole_files_and_hold_each_picture_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(critique, "PLAN_ROWS", most)
    pictures = base_set(tmp_path)
    plans = list(critique_plans(pictures, []))
    assert [len(plan) for plan in plans] == sizes
    rows = pa.concat_tables(plans)
    assert rows.schema == PLAN
    ids = rows["id"].to_pylist()
    assert ids == [f"{number:032x}" for number in range(40) if number % 10]
    assert rows["text"].to_pylist()[:3] == ["caption 1", "caption 2", "a photo of a class 0."]
    assert class_names(pictures) == [f"class {number}" for number in range(4)]
