"""Saved models say of image files what they say of the encoder's tokens."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from actors.features.encoder import Encoder, EncoderConfig, clean_view
from actors.pictures.codec import decode_rgb
from jobs.predict import main
from models.backbones import load_clip
from models.clip import Clip
from models.methods import METHODS
from models.methods.adapted import Adapted
from models.task import Features, Task
from models.text_classifier import text_classifier
from tests.actors.small_world import picture, truncated
from tests.models.methods.tasks import tiny_clip

NAMES = ["okapi", "red panda", "ant"]
TEMPLATE = "a photo of a {}."


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three pictures, and one that is cut off."""
    rows = {f"image {i}.png": picture(f"row {i}") for i in range(3)}
    rows["broken.png"] = truncated(picture("row 3"))
    for name, data in rows.items():
        (tmp_path / name).write_bytes(data)
    return [str(tmp_path / name) for name in rows]


def tokens_of(clip: Clip, files: list[str]) -> torch.Tensor:
    """(N, T, D) as `jobs.encode` stores them."""
    encoder = Encoder(EncoderConfig())
    encoder.clip = clip
    folder, count = Path(files[0]).parent, len(files)
    data = [Path(file).read_bytes() for file in files]
    pq.write_table(pa.table({"image": data}), folder / "rows.parquet")
    batch = {
        "id": np.array(files),
        "source": np.array([str(folder)] * count),
        "file": np.array(["rows.parquet"] * count),
        "place": np.arange(count),
        "views": np.ones(count, dtype=int),
    }
    stored = b"".join(encoder(batch)["tokens"])
    shape = (len(files), clip.num_tokens, clip.embed_dim)
    return torch.from_numpy(np.frombuffer(stored, dtype=np.float16).copy()).view(shape)


def pictures_of(clip: Clip, files: list[str]) -> torch.Tensor:
    """(N, 3, R, R) as methods that read pictures get them."""
    images = [decode_rgb(Path(file).read_bytes()) for file in files]
    return torch.stack([clean_view(image, clip.image_size) for image in images])


def saved(
    folder: Path,
    method: str,
    clip: Clip,
    files: list[str],
    hyper: dict[str, Any] | None = None,
    names: list[str] = NAMES,
) -> Adapted:
    tokens, pictures = tokens_of(clip, files[:3]), pictures_of(clip, files[:3])
    task = Task(
        dataset="animals",
        names=names,
        hint="animal",
        template=TEMPLATE,
        train=Features(tokens[None], torch.arange(3), None, pictures),
        val=None,
        imagined=None,
        clip=clip,
        text=text_classifier(clip, names, [TEMPLATE]),
    )
    made = METHODS[method].fit(task, METHODS[method].Hyper(**hyper or {}), seed=0)
    made.save(folder)
    return made


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    main(list(arguments))
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_files_are_predicted_as_their_stored_tokens_are(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    model = saved(tmp_path / "m", "tip_adapter", load_clip("tiny"), files)
    rows = said(capsys, str(tmp_path / "m"), *files, "--top", "2")
    assert [row["image"] for row in rows] == files
    expected = model.logits(tokens_of(model.clip, files[:3])).softmax(dim=1)
    for row, probabilities in zip(rows[:3], expected, strict=True):
        best = probabilities.topk(2)
        assert row["names"] == [NAMES[i] for i in best.indices.tolist()]
        assert row["probabilities"] == pytest.approx(best.values.tolist(), rel=1e-3)
    assert set(rows[3]) == {"image", "reason"}
    assert "not a readable image" in rows[3]["reason"]


def test_without_a_gpu_one_is_refused_in_one_line(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "m", "zero_shot", load_clip("tiny"), files)
    if torch.cuda.is_available():
        pytest.skip("there is one")
    arguments = [str(tmp_path / "m"), files[0], "--device"]
    assert said(capsys, *arguments, "auto") == said(capsys, *arguments, "cpu")
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "cuda"])
    assert ended.value.code == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith("device: 'cuda', but torch sees no GPU; allowed: auto, cpu")
    )


def test_the_answer_is_the_pictures_whatever_it_is_encoded_as(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "m", "zero_shot", load_clip("tiny"), files)
    grey = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(grey / np.float32(255)).save(tmp_path / "float.tiff")
    names = ("8.png", "16.png", "float.tiff")
    rows = said(capsys, str(tmp_path / "m"), *(str(tmp_path / name) for name in names))
    assert [row["probabilities"] for row in rows] == [rows[0]["probabilities"]] * 3
    assert [row["names"] for row in rows] == [rows[0]["names"]] * 3


def test_what_is_no_picture_has_a_reason_and_the_others_an_answer(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "m", "zero_shot", load_clip("tiny"), files)
    os.mkfifo(tmp_path / "pipe.png")
    Image.new("RGB", (1, 8000)).save(tmp_path / "thin.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "bitmap.dds")
    reasons = {
        "pipe.png": "no regular file",
        "thin.png": "1 x 8000 pixels, sides of more than 1 to 20",
        "bitmap.dds": "not a readable image (none of AVIF, BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP "
        "that can be read)",
        "nowhere.png": "no such file",
    }
    bad = [str(tmp_path / name) for name in reasons]
    rows = said(capsys, str(tmp_path / "m"), *bad, files[0])
    assert [row.get("reason") for row in rows] == [*reasons.values(), None]
    assert rows[-1]["image"] == files[0]
    assert rows[-1]["names"]


def test_a_model_that_reads_pictures_gets_them(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    hyper = {"steps": 3, "lr": 0.01, "alpha": 8.0}
    model = saved(tmp_path / "m", "clip_lora", load_clip("tiny"), files, hyper)
    rows = said(capsys, str(tmp_path / "m"), *files[:3], "--top", "1", "--names", "cat", "okapi")
    expected = model.logits(pictures_of(model.clip, files[:3]), ["cat", "okapi"]).softmax(dim=1)
    assert [row["probabilities"][0] for row in rows] == pytest.approx(
        expected.amax(dim=1).tolist(), rel=1e-3
    )


def test_other_names_are_chosen_from_where_the_method_can(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path / "open", "zero_shot", load_clip("tiny"), files)
    saved(tmp_path / "closed", "tip_adapter", load_clip("tiny"), files)
    (row,) = said(capsys, str(tmp_path / "open"), files[0], "--names", "cat", "okapi")
    assert set(row["names"]) == {"cat", "okapi"}
    assert sum(row["probabilities"]) == pytest.approx(1)
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "closed"), files[0], "--names", "cat"])
    assert "tip_adapter knows its own classes only" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), files[0]])
    assert "no adapted.json" in capsys.readouterr().err


def test_a_clip_beside_the_model_is_the_one_it_runs_on(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    clip, folder = tiny_clip(), tmp_path / "m"
    model = saved(folder, "zero_shot", clip, files)
    save_file(clip.model.state_dict(), folder / "clip.safetensors")
    (folder / "clip.json").write_text(json.dumps(clip.config))
    model.card = replace(model.card, backbone="config:clip.safetensors")
    model.save(folder)
    (row,) = said(capsys, str(folder), files[0], "--top", "9")
    expected = model.logits(tokens_of(clip, files[:1])).softmax(dim=1)
    found = dict(zip(row["names"], row["probabilities"], strict=True))
    assert [found[name] for name in NAMES] == pytest.approx(expected[0].tolist(), rel=1e-3)


def test_classes_of_one_name_are_told_apart_by_their_labels(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    hyper = {"epochs": 40, "lr": 0.1}
    names = ["fox", "ant", "fox"]
    model = saved(tmp_path / "m", "fsnl", load_clip("tiny"), files, hyper, names)
    rows = said(capsys, str(tmp_path / "m"), *files[:3])
    expected = model.logits(tokens_of(model.clip, files[:3])).argmax(dim=1).tolist()
    assert [row["labels"][0] for row in rows] == expected
    for row in rows:
        assert sorted(row["labels"]) == [0, 1, 2]
        assert row["names"] == [names[label] for label in row["labels"]]
    refusals = (
        (["fox", "ant"], "names: 'fox' is 2 classes of the model"),
        (["cat", "c\u0061t "], "names: ['cat', 'cat ']; allowed: each class once"),
        (["caf\u00e9", "cafe\u0301"], "allowed: each class once"),
        (["ant " * 80], "80 tokens; allowed 1 to 75"),
    )
    for asked, words in refusals:
        with pytest.raises(SystemExit, match="2"):
            main([str(tmp_path / "m"), files[0], "--names", *asked])
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def test_a_file_whose_name_is_no_utf_8_has_a_row(
    tmp_path: Path,
    files: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved(tmp_path / "m", "zero_shot", load_clip("tiny"), files)
    monkeypatch.setenv("HOME", str(tmp_path))
    odd = tmp_path / os.fsdecode(b"\xff.png")
    Path(files[0]).rename(odd)
    (row,) = said(capsys, "~/m", str(odd))
    assert row["image"] == str(odd)
    assert row["names"]
