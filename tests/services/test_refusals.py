"""What a store refuses is one line, before anything is made."""

from pathlib import Path

import pytest

from tests.command_line import run_module
from tests.processes import free_ports
from tests.services.object_store import BUCKET, ObjectStore
from tests.services.smoke import RECIPE


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("other key", "cannot be read ("),
        ("no user", "cannot be read ("),
        ("no bucket", "cannot be written (Bucket 'other' not found"),
        ("nobody there", "cannot be read ("),
    ],
)
def test_a_store_that_refuses_is_one_line(
    case: str, told: str, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (silent,) = free_ports(1)
    uri = store.uri(case.replace(" ", "-"))  # another one for each: pyarrow's clients are kept
    match case:
        case "other key":
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
        case "no user":
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
        case "no bucket":
            uri = uri.replace(f"//{BUCKET}/", "//other/")
        case "nobody there":
            uri = uri.replace(f":{store.s3}", f":{silent}")
    studies = f"sqlite:///{tmp_path}/studies.db"
    done = run_module("jobs.demo", *RECIPE, "--storage", uri, "--studies", studies)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: storage: 's3://")
    assert told in line
    assert store.key not in line
