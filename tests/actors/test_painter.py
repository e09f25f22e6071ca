import numpy as np
import pytest
import torch

from actors.factors import FACTORS, draw_factors, factor_table
from actors.images import decode_rgb, resized_square
from actors.painter import SpritePainter
from actors.sprite_painter import SIDE, Scene, paint
from actors.target_scenes import target_concepts
from cluster.catalog.concepts import SUBJECTS
from models.clip import load_clip
from models.text_classifier import text_classifier


def row_batch(names: list[str], **factors: str) -> dict[str, np.ndarray]:
    columns = {"id": [f"row{i}" for i in range(len(names))], "class_name": names}
    columns |= {name: [factors.get(name, "")] * len(names) for name in (*FACTORS, "reason")}
    return {name: np.array(values, dtype=object) for name, values in columns.items()}


def test_image_depends_on_its_row_alone() -> None:
    painter = SpritePainter()
    both = painter(row_batch(["fox", "koala"]))
    alone = painter({name: values[1:] for name, values in row_batch(["fox", "koala"]).items()})
    assert both["image"][1] == alone["image"][0]
    assert both["image"][0] != both["image"][1]


def test_bad_row_is_kept_with_its_reason() -> None:
    made = SpritePainter()(row_batch(["fox", "../../x", "a/b"]))
    assert list(made["id"]) == ["row0", "row1", "row2"]
    assert made["reason"][0] == ""
    assert made["reason"][1] == "class '../../x' has no sprite"
    assert list(made["image"][1:]) == [b"", b""]


def test_a_refused_caption_is_not_painted() -> None:
    made = SpritePainter()(row_batch(["fox"], reason="empty caption"))
    assert made["image"][0] == b""
    assert made["reason"][0] == "empty caption"


def test_an_unknown_factor_is_refused() -> None:
    made = SpritePainter()(row_batch(["fox"], background="on the moon"))
    assert made["reason"][0] == "background 'on the moon' is not in the sprite painter's table"


@pytest.mark.parametrize("kind", FACTORS)
def test_every_phrase_of_the_table_changes_the_picture(kind: str) -> None:
    phrases = list(factor_table()[f"{kind}s"])
    scenes = {
        phrase: Scene("fox", **{"background": "on a beach", kind: phrase}) for phrase in phrases
    }
    pictures = {phrase: paint(scene, "row").tobytes() for phrase, scene in scenes.items()}
    assert len(set(pictures.values())) == len(phrases) > 4


def test_a_dark_place_is_darker_than_a_sunny_one() -> None:
    night, noon = (
        np.asarray(paint(Scene("fox", background="on a beach", lighting=lighting), "row")).mean()
        for lighting in ("in moonlight", "in bright sunlight")
    )
    assert night < 0.8 * noon


def test_pictures_are_pngs_of_the_stated_size() -> None:
    made = SpritePainter()(row_batch(["fox"]))
    assert made["image"][0].startswith(b"\x89PNG")
    assert decode_rgb(made["image"][0]).size == (SIDE, SIDE)


def test_datasets_name_backgrounds_that_exist() -> None:
    table = factor_table()
    assert set(table["dataset_backgrounds"]) == {*SUBJECTS, "digits"}
    for places in table["dataset_backgrounds"].values():
        assert set(places) <= set(table["backgrounds"])


def test_pictures_can_be_told_apart_by_a_clip() -> None:
    """Zero-shot, by class names, over pictures of drawn factors; chance is 1 in 16."""
    names = [c.name for c in target_concepts("plants") if c.group == "IP"]
    table = {f"{kind}s": list(factor_table()[f"{kind}s"]) for kind in FACTORS}
    drawn = [(label, draw_factors(f"{label} {i}", table)) for label in range(len(names))
             for i in range(8)]  # fmt: skip
    batch = {"id": [f"row{i}" for i in range(len(drawn))]}
    batch["class_name"] = [names[label] for label, _ in drawn]
    batch |= {kind: [factors[kind] for _, factors in drawn] for kind in FACTORS}
    batch["reason"] = [""] * len(drawn)
    made = SpritePainter()({name: np.array(column, dtype=object) for name, column in batch.items()})
    clip = load_clip("tiny")
    pictures = [resized_square(decode_rgb(image), clip.image_size) for image in made["image"]]
    images = torch.from_numpy(np.stack(pictures)).movedim(-1, 1)
    features = clip.encode_tokens(clip.normalise(images))[:, 0]
    texts = text_classifier(clip, names, ["a photo of a {}."])
    labels = torch.tensor([label for label, _ in drawn])
    right = (features @ texts.T).argmax(dim=1) == labels
    assert right.float().mean() > 0.5
