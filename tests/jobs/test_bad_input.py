"""Bad images and settings as a user of the command line meets them: one line, or a rejected row."""

import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from actors.pictures.codec import png_bytes
from cluster.artifacts import open_artifact
from cluster.catalog.dataset import open_dataset
from tests.actors.small_world import make_features
from tests.command_line import run_module

PICTURES = {"train": 5, "val": 4, "test": 2}


def job(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_module(f"jobs.{name}", *arguments)


def artifact(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["artifact"]


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that it ended in."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def garden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ImageFolder of two classes with five training images, one of them cut off."""
    root = tmp_path_factory.mktemp("garden")
    for label, name in enumerate(("okapi", "red_panda")):
        for split, count in PICTURES.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                picture = Image.new("RGB", (40, 30), (50 * i, 100 * label, 7))
                (root / split / name / f"{i}.png").write_bytes(png_bytes(picture))
    cut = root / "train" / "okapi" / "4.png"
    cut.write_bytes(cut.read_bytes()[:40])
    return root


@pytest.fixture(scope="module")
def dataset(garden: Path, local_ray: None) -> str:
    """The garden as an artifact."""
    done = job(
        "dataset", "--storage", f"{garden}/runs", "--name", "garden", "--folder", f"{garden}"
    )
    return artifact(done)


def test_a_truncated_image_is_a_rejected_row(dataset: str) -> None:
    made = open_artifact(dataset, "dataset")
    (rejected,) = made.read_table("rejected").to_pylist()
    assert rejected["path"] == "train/okapi/4.png"
    assert "not a readable image" in rejected["reason"]
    assert made.read_table("rows").num_rows == 2 * sum(PICTURES.values()) - 1


def test_an_empty_class_folder_is_named(garden: Path, tmp_path: Path, local_ray: None) -> None:
    (tmp_path / "folder").symlink_to(garden)
    (garden / "train" / "saola").mkdir()
    folder = str(tmp_path / "folder")
    try:
        done = job("dataset", "--storage", str(tmp_path), "--name", "zoo", "--folder", folder)
    finally:
        (garden / "train" / "saola").rmdir()
    assert "class 'saola' has 0 readable images in 'train'" in refusal(done)
    assert not list(tmp_path.glob("dataset/*")), "nothing half-written is left"


def test_too_many_shots_and_an_unknown_method_are_named(dataset: str, tmp_path: Path) -> None:
    features = make_features(tmp_path, open_dataset(dataset)).uri
    given = ["--storage", str(tmp_path), "--datasets", json.dumps([dataset])]
    given += ["--features", json.dumps([features]), "--methods"]
    many = json.dumps({"probe": {"method": "linear_probe", "shots": [16]}})
    said = refusal(job("search", *given, many))
    assert "shots: 16 train images of class 'okapi'" in said
    assert "has 4; allowed: at most 4" in said
    said = refusal(job("search", *given, json.dumps({"probe": {"method": "magic", "shots": [1]}})))
    assert "magic" in said
    assert "linear_probe" in said
    assert not list(tmp_path.glob("adapted/*"))
