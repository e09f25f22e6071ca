"""Predictions of a saved model for image files."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from os.path import expanduser, isfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actors.features.encoder import backbone, clean_view, view_tokens
from actors.pictures.codec import BadImageError, decode_rgb, picture_bytes
from actors.search.hyper import replaced
from cluster.errors import ConfigError
from models.clip import Clip
from models.methods import METHODS, load_adapted
from models.methods.adapted import Adapted, Card, read_card
from models.methods.imaginefsl import ImagineFsl
from models.released.fine_tuned import OWN_CLIP

IMPORTED = ("templates", "lora")
"""What the card of an imported model tells beside the method's hyper-parameters."""

HERE = partial(backbone, download=False)
"""Loads a CLIP from what is on this machine, for a card can name any."""


def open_model(folder: Path, load: Callable[[str], Clip] = HERE) -> Adapted:
    """A saved model on the CLIP that its card names, or the one that lies beside it.

    load: loads a CLIP of a name to where the model is to answer. ConfigError if the model is not
    complete, its card holds what it may not, or the CLIP is another one now.
    """
    own_clip = folder / OWN_CLIP
    try:
        card = read_card(folder)
        _require_hyper(folder, card)
        name = f"config:{own_clip}" if isfile(own_clip) else card.backbone
        return load_adapted(folder, load(name))
    except ValueError as error:
        raise ConfigError(f"model: {error}") from error


def seen_by(model: Adapted, views: Tensor) -> Tensor:
    """What a model reads of pictures (N, 3, R, R) uint8, which lie where its CLIP does."""
    return views if model.reads == "images" else view_tokens(model.clip, views)


def _require_hyper(folder: Path, card: Card) -> None:
    """ConfigError if a hyper-parameter is none of the method's, or has a value of another type."""
    if card.method not in METHODS:
        raise ValueError(f"{folder}: method {card.method!r}; allowed are {sorted(METHODS)}")
    told = {name: card.hyper[name] for name in IMPORTED if name in card.hyper}
    if card.method == ImagineFsl.name and told:
        if not isinstance(told.get("templates"), str):
            raise ValueError(f"{folder}: hyper.templates is {told.get('templates')!r}")
    else:
        told = {}
    hyper = {name: value for name, value in card.hyper.items() if name not in told}
    full = replaced(f"{folder}: hyper", METHODS[card.method].Hyper(), hyper)
    if not told and (missing := sorted(asdict(full).keys() - hyper.keys())):
        raise ValueError(f"{folder}: hyper has no {missing}")


@dataclass(frozen=True)
class Predictor:
    """Names image files by a saved model.

    names: the label space, by default the model's own. top: names per image.
    """

    model: Adapted
    names: Sequence[str] | None = None
    top: int = 5

    def __call__(self, files: Sequence[str]) -> list[dict[str, Any]]:
        """A row per file, in order: `image`, and `names` with their `probabilities`, most likely
        first, and their `labels`, places in the label space, which tell classes of one name apart;
        or `reason`, why the file is no image.

        Probabilities are the softmax of the chosen head's logits. A fused head imported with a rule
        of the original's has scores that were never scaled for one: of it the order counts.
        """
        rows: list[dict[str, Any]] = [{"image": file} for file in files]
        clip, squares, good = self.model.clip, [], []
        for row in rows:
            try:
                image = decode_rgb(picture_bytes(Path(expanduser(row["image"]))))
            except BadImageError as error:
                row["reason"] = str(error)
            else:  # one picture of full size is in memory at a time
                squares.append(clean_view(image, *clip.square))
                good.append(row)
        if good:
            names = self.names or self.model.card.names
            views = torch.stack(squares).to(clip.mean.device)
            with torch.no_grad():
                logits = self.model.logits(seen_by(self.model, views), self.names or None)
            scores = logits.softmax(dim=1).cpu()
            if not scores.isfinite().all():
                raise ConfigError(
                    "model: its scores are not finite; allowed: weights of a sane size"
                )
            best = scores.topk(min(self.top, len(names)), dim=1)
            for row, places, probabilities in zip(good, best.indices, best.values, strict=True):
                row["names"] = [names[i] for i in places.tolist()]
                row["labels"] = places.tolist()
                row["probabilities"] = probabilities.tolist()
        return rows
