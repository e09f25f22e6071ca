"""An emoji set in a folder of the user's."""

import json
from pathlib import Path

import numpy as np
import pytest

from actors.embedded.iconify import IconSet
from actors.embedded.sprites import SPRITE_SIZE
from cluster.errors import ConfigError
from tests.small_icons import FOX, KOALA, RED_SQUARE, icon_folder


def test_a_picture_is_drawn_by_its_code_point(tmp_path: Path) -> None:
    icons = IconSet(icon_folder(tmp_path, {"fox": RED_SQUARE}))
    picture = np.asarray(icons.sprite(FOX))
    assert picture.shape == (SPRITE_SIZE, SPRITE_SIZE, 4)
    assert picture[SPRITE_SIZE // 2, SPRITE_SIZE // 2].tolist() == [255, 0, 0, 255]
    assert picture[0, 0, 3] == 0
    assert (icons.has(FOX), icons.has(KOALA), icons.count_concepts()) == (True, False, 1)
    with pytest.raises(KeyError):
        icons.sprite(KOALA)


@pytest.mark.parametrize(
    "body",
    [
        '<image href="/etc/hostname" width="9" height="9"/>',
        '<IMAGE href="data:image/png;base64,AAAA"/>',
        "<!DOCTYPE svg>" + RED_SQUARE,
        "<style>@import url(x)</style>",
        "x" * (2**18 + 1),
        7,
    ],
)
def test_a_picture_that_reaches_for_more_is_none(tmp_path: Path, body: object) -> None:
    assert not IconSet(icon_folder(tmp_path, {"fox": body})).has(FOX)


def test_a_name_that_is_no_text_is_no_picture(tmp_path: Path) -> None:
    folder = icon_folder(tmp_path, {"fox": RED_SQUARE})
    Path(folder, "chars.json").write_text(json.dumps({FOX.lower(): ["fox"], KOALA.lower(): "fox"}))
    assert (IconSet(folder).has(FOX), IconSet(folder).has(KOALA)) == (False, True)


def test_another_picture_is_another_digest(tmp_path: Path) -> None:
    one = IconSet(icon_folder(tmp_path / "a", {"fox": RED_SQUARE})).digest
    assert IconSet(icon_folder(tmp_path / "b", {"fox": RED_SQUARE})).digest == one
    assert IconSet(icon_folder(tmp_path / "c", {"koala": RED_SQUARE})).digest != one


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("icons.json", "{", "icons.json cannot be read"),
        ("chars.json", "[]", "chars.json is no mapping"),
        (
            "icons.json",
            json.dumps({"icons": {}, "width": 0, "height": 9}),
            "has no icons, or no wi",
        ),
        (
            "icons.json",
            json.dumps({"icons": [], "width": 9, "height": 9}),
            "has no icons, or no wi",
        ),
        ("chars.json", "[" * 100_000, "chars.json cannot be read"),
    ],
)
def test_a_folder_that_is_no_set_is_refused_in_one_line(
    tmp_path: Path, name: str, text: str, why: str
) -> None:
    folder = icon_folder(tmp_path, {"fox": RED_SQUARE})
    Path(folder, name).write_text(text)
    with pytest.raises(ConfigError, match=why):
        IconSet(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/icons\.json cannot be read \(FileNotFound"):
        IconSet(str(tmp_path / "nowhere"))
