"""python -m jobs.predict MODEL IMAGE…

What a saved model says of image files: one JSON line each on stdout. Needs no Ray.
"""

import json
import os
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from jsonargparse.typing import PositiveInt

from actors.features.encoder import backbone, require_names
from actors.search.predictor import Predictor, open_model
from cluster.catalog.names import shown_name
from cluster.errors import ConfigError
from cluster.job import OneLineParser, refuse

Device = Literal["auto", "cpu", "cuda"]
IMAGES_AT_ONCE = 64
MODEL = 'Local folder of a saved model: models/CELL/SEED of a search, or a "model" artifact.'
DOWNLOAD = "Fetch the CLIP that the model's card names, if it is not on this machine."
DEVICE = "Where it is computed; auto: on a GPU where torch sees one."
NAMES = "Classes to choose from, for a method that answers in any label space; default: its own."


def predict(
    model: str,
    images: list[str],
    names: list[str] | None,
    top: int,
    *,
    download: bool = False,
    device: Device = "auto",
) -> None:
    """Prints the rows of `actors.search.predictor.Predictor`.

    ConfigError if the model cannot answer, or torch sees no GPU for device "cuda".
    """
    where = _torch_device(device)
    load = partial(backbone, download=download, device=where)
    opened = open_model(Path(os.path.expanduser(model)), load)
    if names is not None:
        if not opened.open_vocabulary:
            method = opened.card.method
            raise ConfigError(f"names: {names}; allowed: none, {method} knows its own classes only")
        shown = list(map(shown_name, names))
        refused = {
            n for n, text in zip(names, shown, strict=True) if not text or shown.count(text) > 1
        }
        if refused:
            raise ConfigError(f"names: {sorted(refused)}; allowed: each class once, none empty")
        require_names(opened.clip, "names", names)
    predictor = Predictor(opened, names, top)
    for start in range(0, len(images), IMAGES_AT_ONCE):
        for row in predictor(images[start : start + IMAGES_AT_ONCE]):
            line = json.dumps(row, ensure_ascii=False)
            print(line.encode("utf-8", "backslashreplace").decode(), flush=True)


def _torch_device(device: Device) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: 'cuda', but torch sees no GPU; allowed: auto, cpu")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line, which has two positional arguments as no other job's."""
    parser = OneLineParser(description=__doc__)
    parser.add_argument("model", type=str, help=MODEL)
    parser.add_argument("images", type=str, nargs="+", help="Local image files.")
    parser.add_argument("--names", type=str, nargs="+", help=NAMES)
    parser.add_argument("--top", type=PositiveInt, default=5, help="Names per image.")
    parser.add_argument("--device", type=Device, default="auto", help=DEVICE)
    parser.add_argument("--download", action="store_true", help=DOWNLOAD)
    options = parser.parse_args(arguments)
    try:
        predict(
            options.model,
            options.images,
            options.names,
            options.top,
            download=options.download,
            device=options.device,
        )
    except (ConfigError, ValueError) as error:  # the second: of a name without tokens
        refuse(str(error))


if __name__ == "__main__":
    main()
