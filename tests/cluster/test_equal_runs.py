"""Equal runs at once: one makes the artifact, the others have it."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.artifacts import Draft, draft, open_artifact
from tests.processes import wait_until

ROOT = Path(__file__).parents[2]
RUN = """if True:
    import sys, time
    import pyarrow as pa
    from cluster.artifacts import draft
    out = draft(sys.argv[1], "factors", "toy", config={}, inputs={})
    if out.artifact is None:
        for number in range(20):
            out.write_table(f"rows-{number}", pa.table({"x": [time.time_ns()]}))
            out.write_json("work/notes.json", number)
            time.sleep(0.01)
        print("made", flush=True)
        artifact = out.publish({"rows": 20})
    else:
        artifact = out.artifact
    print(artifact.read_table("rows-7")["x"][0], artifact.manifest.created)"""
HOLD = """if True:
    import sys, time
    from cluster.artifacts import draft
    out = draft(sys.argv[1], "factors", "toy", config={}, inputs={})
    print("has it", flush=True)
    time.sleep(600)"""


def start(code: str, storage: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(storage)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def toy(storage: Path) -> Draft:
    return draft(str(storage), "factors", "toy", config={}, inputs={})


def test_all_end_with_the_same_artifact(tmp_path: Path) -> None:
    """Its rows differ from run to run: had two of them written, files and hashes would differ."""
    runs = [start(RUN, tmp_path) for _ in range(6)]
    ends = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0] * len(runs), ends
    printed = "".join(out for out, _ in ends).split("\n")
    assert printed.count("made") == 1
    assert len(set(printed) - {"made", ""}) == 1
    (folder,) = (tmp_path / "factors").iterdir()
    artifact = open_artifact(str(folder), "factors")
    assert not list(artifact.changed())
    assert not list(tmp_path.rglob("*.partial"))


def test_who_waits_says_so(tmp_path: Path) -> None:
    out = toy(tmp_path)
    waiting = start(RUN, tmp_path)
    assert waiting.stderr
    assert waiting.stderr.readline() == f"waiting: another process makes {out.uri}\n"
    out.write_table("rows-7", pa.table({"x": [1]}))
    created = out.publish({}).manifest.created
    assert waiting.communicate(timeout=300)[0] == f"1 {created}\n"


def test_a_killed_run_keeps_nobody_waiting(tmp_path: Path) -> None:
    holder = start(HOLD, tmp_path)
    wait_until(lambda: list(tmp_path.rglob("lock")), holder)
    assert holder.stdout
    assert holder.stdout.readline() == "has it\n"
    holder.kill()
    holder.wait()
    assert toy(tmp_path).publish({}).manifest.rows == {}


def test_a_draft_that_nobody_keeps_is_free_again(tmp_path: Path) -> None:
    first, second = toy(tmp_path), toy(tmp_path)
    assert first.lock is second.lock, "one process does not wait for itself"
    waiting = start(RUN, tmp_path)
    assert waiting.stderr
    assert waiting.stderr.readline().startswith("waiting: ")
    del first, second
    assert waiting.communicate(timeout=300)[0].startswith("made\n")


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    out = toy(tmp_path)

    def write() -> None:
        with out.open_file("rows/part-0.parquet") as stream:
            stream.write(b"PAR1")
            Path("/dev/full").write_bytes(b"x")

    with pytest.raises(OSError, match="No space left"):
        write()
    assert [path.name for path in Path(out.uri).rglob("*") if path.is_file()] == ["lock"]
    assert out.publish({}).manifest.files == {}
