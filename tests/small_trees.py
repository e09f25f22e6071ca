"""Small folders in the layouts of the benchmark sets, with the names that are awkward."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from actors.pictures.codec import png_bytes

SPLITS = ("train", "val", "test")
AWKWARD = ("ant", "plant", "AC/DC fan_heater", "St. Bernard", "F-16A/B")
"""One inside another, with a slash, an underscore, a dot, upper case."""


def picture(path: Path, shade: int = 0) -> None:
    """A small good image, in PNG whatever the file is called."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_bytes(Image.new("RGB", (12, 10), (shade % 256, 7, 99))))


def coop_tree(root: Path, counts: dict[str, int], folder: str, images: str, index: str) -> Path:
    """A set of CoOp's with a split file: `counts` images per class in train, 2 in val and test.

    The split file is out of order, as CoOp's are: its classes start with the last one, and so do
    the images of each. Returns the split file.
    """
    split: dict[str, list[list[Any]]] = {}
    for part in SPLITS:
        split[part] = []
        for label, (name, count) in reversed(list(enumerate(counts.items()))):
            for i in reversed(range(count if part == "train" else 2)):
                file = f"class_{label}/{part}_{i}.jpg"
                picture(root / folder / images / file, i)
                split[part].append([file, label, name])
    path = root / folder / index
    path.write_text(json.dumps(split))
    return path


def laion_tree(root: Path, domain: str, group: str, names: dict[str, int], n: int = 0) -> Path:
    """One group of a LAION-Beyond domain, `names` by label. Returns its split file."""
    folder = root / f"{domain}{n or len(names)}_{group}"
    split: dict[str, dict[str, dict[str, Any]]] = {}
    for part in SPLITS:
        split[part] = {}
        for name, label in names.items():
            for i in range(3 if part == "train" else 2):
                file = f"{part}_{i}.jpg"
                picture(folder / "images" / name / file, i)
                split[part][str(len(split[part]))] = {
                    "classname": name,
                    "image_name": file,
                    "label": label,
                    "superclass": "thing",
                    "s_label": 0,
                    "INFO": {"Refined_caption3": f"a {name} ({group})\nin the sun"},
                }
    path = folder / f"split_Xin_{folder.name}.json"
    path.write_text(json.dumps(split))
    return path


def folder_tree(root: Path, classes: dict[str, int], splits: tuple[str, ...] = SPLITS) -> None:
    """SPLIT/CLASS/file with as many images of each class in every split."""
    for split in splits:
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                picture(root / split / name / f"{split}_{i}.png", i)
