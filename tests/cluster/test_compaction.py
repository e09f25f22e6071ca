"""Small files become large ones: every row is there, once, and a run that was killed goes on."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import compaction
from cluster.artifacts import WORK, Draft, draft, open_artifact
from cluster.compaction import compact

SMALL = f"{WORK}/small"


def drafted(storage: Path) -> Draft:
    return draft(str(storage), "images", "toy", config={}, inputs={})


def add(out: Draft, name: str, ids: list[str], reason: str | None = "") -> None:
    rows = {"id": ids, "reason": pa.nulls(len(ids)) if reason is None else [reason] * len(ids)}
    out.write_table(f"{SMALL}/{name}", pa.table(rows))


def files(out: Draft) -> list[Path]:
    return sorted(Path(out.uri, "rows").iterdir())


def test_one_file_has_every_row_once(tmp_path: Path) -> None:
    """An id that was committed twice stays where it came first; a column may be empty."""
    out = drafted(tmp_path)
    add(out, "a", ["2", "1"], None)
    add(out, "b", ["1", "3", "3"], "dark")
    compact(out, SMALL, "rows")
    (file,) = files(out)
    assert pq.read_table(file).to_pydict() == {
        "id": ["2", "1", "3"],
        "reason": [None, None, "dark"],
    }
    made = out.publish({"rows": 3})
    assert made.manifest.files.keys() == {f"rows/{file.name}"}
    assert open_artifact(made.uri, "images").read_table("rows")["id"].to_pylist() == ["1", "2", "3"]


def test_a_folder_without_a_row_is_a_table_without_a_row(tmp_path: Path) -> None:
    out = drafted(tmp_path)
    add(out, "a", [])
    compact(out, SMALL, "rows")
    assert out.read_table("rows").to_pydict() == {"id": [], "reason": []}


def test_files_that_came_later_make_another_file(tmp_path: Path) -> None:
    out = drafted(tmp_path)
    add(out, "a", ["1"])
    compact(out, SMALL, "rows")
    earlier = files(out)
    compact(out, SMALL, "rows")
    assert files(out) == earlier
    add(out, "b", ["2"])
    compact(out, SMALL, "rows")
    assert len(files(out)) == 1
    assert files(out) != earlier
    assert out.read_table("rows")["id"].to_pylist() == ["1", "2"]


def test_many_files_are_written_by_tasks_and_none_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_ray: None
) -> None:
    monkeypatch.setattr(compaction, "FILE_BYTES", 1)
    out = drafted(tmp_path)
    for number in range(4):
        add(out, str(number), [f"{number}", f"{number + 1}"])
    compact(out, SMALL, "rows")
    written = files(out)
    assert len(written) == 4
    written[0].unlink()
    before = {path: path.stat().st_mtime_ns for path in written[1:]}
    compact(out, SMALL, "rows")
    assert files(out) == written
    assert {path: path.stat().st_mtime_ns for path in written[1:]} == before
    made = out.publish({"rows": 5})
    assert made.read_table("rows")["id"].to_pylist() == ["0", "1", "2", "3", "4"]
    assert not list(made.changed())
    assert all(facts.sha256 for facts in made.manifest.files.values())
