"""A folder of images as a user has it: some handwritten digits, and a file that is no image."""

from pathlib import Path

from actors.local import embedded

NAMES = ("five", "four", "one", "zero")
"""Of the classes, in order of label: that of their folders' names."""
IMAGES = {"train": 6, "val": 4, "test": 8}
"""Of each class."""


def write_digits(root: Path) -> Path:
    """SPLIT/CLASS/NUMBER.png, and a broken training file."""
    source = embedded("digits")
    left = {(split, name): count for split, count in IMAGES.items() for name in NAMES}
    for row in source.rows.to_pylist():
        key = row["split"], row["class_name"]
        if left.get(key, 0):
            left[key] -= 1
            path = root / row["split"] / row["class_name"] / f"{left[key]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.images([row["id"]])[0])
    (root / "train" / NAMES[0] / "notes.txt").write_text("no image")
    return root
