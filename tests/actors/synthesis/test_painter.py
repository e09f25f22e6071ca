from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from actors.embedded import sprites
from actors.embedded.concepts import SUBJECTS
from actors.embedded.iconify import IconSet
from actors.embedded.imagined_scenes import SIDE, Scene, paint
from actors.embedded.sprite_factors import FACTORS, factor_table
from actors.embedded.sprites import sprite
from actors.embedded.target_scenes import target_concepts
from actors.pictures.codec import decode_rgb, resized_square
from actors.synthesis.factors.drawing import draw_factors
from actors.synthesis.painters.painter import CaptionPainter, PainterConfig
from actors.synthesis.painters.sprites import SpritesConfig
from cluster.errors import ConfigError
from models.backbones import load_clip
from models.text_classifier import text_classifier
from tests.small_icons import RED_SQUARE, icon_folder

VIEWS = 2


def painted(
    names: list[str],
    hands: tuple[str, ...] = ("openmoji",),
    iconify: str | None = None,
    seed: int = 0,
    **factors: str,
) -> list[dict[str, Any]]:
    """The pictures' rows of one caption per name."""
    rows = [
        {"caption_id": f"row{i}", "dataset": "d", "class_name": name, "label": i, "index": i}
        | {"group": "IP", "hint": "thing", "mode": "BG", "caption": f"A {name}."}
        | {factor: factors.get(factor, "") for factor in (*FACTORS, "reason")}
        for i, name in enumerate(names)
    ]
    engine = PainterConfig(sprites=SpritesConfig(hands=hands, iconify=iconify)).engine
    return CaptionPainter(engine, VIEWS, seed)(pa.Table.from_pylist(rows)).to_pylist()


def test_a_picture_depends_on_its_row_alone() -> None:
    images = [row["image"] for row in painted(["fox", "koala"])]
    assert images[:VIEWS] == [row["image"] for row in painted(["fox"])]
    assert len(set(images)) == len(images) == 2 * VIEWS


def test_another_seed_makes_other_pictures_of_the_same_captions() -> None:
    first, second = painted(["fox"]), painted(["fox"], seed=1)
    assert [row["caption"] for row in first] == [row["caption"] for row in second]
    for column in ("id", "image"):
        assert not {row[column] for row in first} & {row[column] for row in second}


def test_all_pictures_of_a_caption_are_by_one_hand_and_every_hand_has_captions() -> None:
    hands = ("openmoji", "noto_colour", "noto_colour+hatching")
    rows = painted(["fox"] * 300, hands)
    by_caption = {row["caption_id"]: row["generator"] for row in rows}
    assert all(row["generator"] == by_caption[row["caption_id"]] for row in rows)
    counts = Counter(by_caption.values())
    assert counts.keys() == {f"sprites {hand}" for hand in hands}
    assert min(counts.values()) > 70
    one = next(row for row in rows if row["generator"] == "sprites openmoji")
    (alone,) = (row for row in painted(["fox"] * 300) if row["id"] == one["id"])
    assert alone == one, "a hand paints as if it were the only one"


def test_what_a_folder_lacks_is_painted_by_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = icon_folder(tmp_path, {"fox": RED_SQUARE})
    config = SpritesConfig(hands=("openmoji", "iconify+poster"), iconify=folder)
    assert config.on_any_node().iconify == folder
    assert f"{folder} has 1 of " in capsys.readouterr().err
    rows = painted(["fox", "koala"] * 20, config.hands, folder)
    fox, koala = (
        {(row["generator"], row["weights"]) for row in rows if row["class_name"] == name}
        for name in ("fox", "koala")
    )
    assert koala == {("sprites openmoji", "")}
    assert fox == {("sprites openmoji", ""), ("sprites iconify+poster", IconSet(folder).digest)}
    alone = painted(["koala", "three"], ("iconify",), folder)
    assert {row["reason"] for row in alone[:VIEWS]} == {
        "class 'koala' has no picture by these hands"
    }
    assert {row["reason"] for row in alone[VIEWS:]} == {""}, "digits are no artist's"


@pytest.mark.parametrize(
    ("hands", "iconify"), [(("iconify",), None), (("openmoji",), "/x"), (("iconify",), "/x")]
)
def test_a_folder_goes_with_its_hand(hands: tuple[str, ...], iconify: str | None) -> None:
    with pytest.raises(ConfigError, match=r"painter\.sprites\.iconify: "):
        SpritesConfig(hands=hands, iconify=iconify).on_any_node()


@pytest.mark.parametrize("hands", [(), ("twemoji",), ("openmoji+oil",), ("openmoji", "openmoji")])
def test_unknown_hands_are_refused(hands: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"sprites\.hands: .*; allowed: some of openmoji, "):
        SpritesConfig(hands=hands)


def test_an_artist_without_its_package_is_refused_before_anything_is_painted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sprite.cache_clear()
    monkeypatch.setattr(sprites, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=r"'noto_colour' cannot be drawn .*dynamic_font"):
        SpritesConfig(hands=("noto_colour",)).on_any_node()


def test_a_bad_row_is_kept_with_its_reason() -> None:
    rows = painted(["fox", "../../x", "a/b"])
    assert [(row["caption_id"], row["view"]) for row in rows] == [
        (f"row{i}", view) for i in range(3) for view in range(VIEWS)
    ]
    assert rows[0]["reason"] == ""
    assert rows[VIEWS]["reason"] == "class '../../x' has no sprite"
    assert [row["image"] for row in rows[VIEWS:]] == [b""] * 2 * VIEWS


def test_a_refused_caption_is_not_painted() -> None:
    row = painted(["fox"], reason="empty caption")[0]
    assert (row["image"], row["reason"]) == (b"", "empty caption")


def test_an_unknown_factor_is_refused() -> None:
    row = painted(["fox"], background="on the moon")[0]
    assert row["reason"] == "background 'on the moon' is not in the sprite painter's table"


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
    row = painted(["fox"])[0]
    assert row["image"].startswith(b"\x89PNG")
    assert decode_rgb(row["image"]).size == (row["size"], row["size"]) == (SIDE, SIDE)


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
    made = [
        paint(Scene(names[label], **{kind: factors[kind] for kind in FACTORS}), f"row{i}")
        for i, (label, factors) in enumerate(drawn)
    ]
    clip = load_clip("tiny")
    pictures = [resized_square(image, clip.image_size) for image in made]
    images = torch.from_numpy(np.stack(pictures)).movedim(-1, 1)
    features = clip.encode_tokens(clip.normalise(images))[:, 0]
    texts = text_classifier(clip, names, ["a photo of a {}."])
    labels = torch.tensor([label for label, _ in drawn])
    right = (features @ texts.T).argmax(dim=1) == labels
    assert right.float().mean() > 0.5
