import sys
from pathlib import Path

import pytest

from cluster.artifacts import draft
from jobs.doctor.__main__ import DoctorConfig, doctor, main
from jobs.doctor.findings import artifact, benchmark, launcher
from tests.small_trees import coop_tree, laion_tree

PETS = ("oxford_pets", "images", "split_zhou_OxfordPets.json")


def lines(cfg: DoctorConfig, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    """The exit code, and the lines by what they are about."""
    code = doctor(cfg)
    said = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert {verdict for verdict, _ in said} <= {"ok", "warn", "fail"}
    return code, {rest.partition(": ")[0]: f"{verdict} {rest}" for verdict, rest in said}


def test_a_sound_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coop_tree(tmp_path, {f"breed_{i}": 3 for i in range(37)}, *PETS)
    sound = DoctorConfig(storage=str(tmp_path / "runs"), root=str(tmp_path), all_images=True)
    code, said = lines(sound, capsys)
    assert code == 0
    expected = "37 classes, 111 train, 74 val, 74 test; 259 images looked at"
    assert said["oxford_pets"] == f"ok oxford_pets: {expected}"
    assert {"python", "torch", "ray", "vllm", "diffusers", "gpus", "storage"} <= said.keys()
    assert said["weights"].startswith("ok weights: tiny, hash ")


def test_faulty_images_and_an_unexpected_number_of_classes_are_warnings(tmp_path: Path) -> None:
    split_file = coop_tree(tmp_path, {"a": 3, "b": 3}, *PETS)
    (split_file.parent / "images" / "class_0" / "train_1.jpg").unlink()
    (split_file.parent / "images" / "class_1" / "test_0.jpg").write_bytes(b"GIF89a")
    found = benchmark("oxford_pets", str(tmp_path), {}, all_images=True)
    assert found.verdict == "warn"
    assert "2 classes, 6 train, 4 val, 4 test; 37 classes were expected" in found.words
    assert "1 files are missing; 1 of 13 images looked at are broken" in found.words
    assert "class_1/test_0.jpg (not a readable image" in found.words


def test_what_would_stop_a_job_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split_file = coop_tree(tmp_path, {"a": 1, "b": 1}, *PETS)
    (split_file.parent / "images" / "class_0" / "train_0.jpg").unlink()
    laion_tree(tmp_path, "Food", "OOP", {"poke": 0})
    (tmp_path / "file").write_text("")
    cfg = DoctorConfig(
        storage=str(tmp_path / "file"),
        root=str(tmp_path),
        datasets=["oxford_pets", "laion_food", "imagenet"],
        backbone="ViT-B-16:/no/such/file.pt",
        launcher="ray_cluster.yaml",
    )
    code, said = lines(cfg, capsys)
    assert code == 1
    assert "class 'a' has 0 readable images in 'train'" in said["oxford_pets"]
    assert "has no FoodN_IP/split_Xin" in said["laion_food"]
    assert "has no 'classnames.txt'" in said["imagenet"]
    assert "cannot be written" in said["storage"]
    assert "no file /no/such/file.pt" in said["weights"]
    for name in ("oxford_pets", "laion_food", "imagenet", "storage", "weights", "launcher"):
        assert said[name].startswith("fail")


@pytest.mark.long
def test_artifacts_are_compared_with_their_hashes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = draft(str(tmp_path), "factors", "toy", config={}, inputs={})
    out.write_bytes("a.bin", b"1234")
    uri = out.publish({}).uri
    whole = artifact(uri)
    words = f"{uri}: 1 files, 4e-09 GB, as they were published"
    assert (whole.verdict, whole.words) == ("ok", words)
    Path(uri, "a.bin").write_bytes(b"1235")
    code, said = lines(DoctorConfig(storage=str(tmp_path), artifact=[uri]), capsys)
    assert code == 1
    assert said["artifact"] == f"fail artifact: {uri}: 1 files are damaged: a.bin has other bytes"
    Path(uri, "manifest.json").write_bytes(b"{")
    assert artifact(uri).verdict == "fail"
    assert "is no JSON" in artifact(uri).words


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--all_images", "7"], '"all_images"'),
        (["--rooot", "x"], "--rooot"),
        (["--config", "/nothing.yaml"], "'/nothing.yaml'"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_2(
    arguments: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["doctor", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    printed, line = capsys.readouterr()
    assert (ended.value.code, printed) == (2, "")
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert named in line


def test_a_launcher_file_with_values_left_to_fill_in_fails(
    tmp_path: Path,
) -> None:
    text = (Path(__file__).parents[2] / "ray_cluster.yaml").read_text()
    (tmp_path / "own.yaml").write_text(text.replace("FILL-IN", "0a1b"))
    for path, verdict in (("ray_cluster.yaml", "fail"), (tmp_path / "own.yaml", "ok")):
        findings = list(launcher(str(Path(__file__).parents[2] / path)))
        assert {finding.verdict for finding in findings} == {verdict}
    (finding,) = launcher(str(tmp_path / "none.yaml"))
    assert (finding.verdict, "No such file" in finding.words) == ("fail", True)
