"""Critics: pictures to the numbers by which a curation keeps or refuses them."""

from collections import defaultdict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import imagehash
import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from actors.features.encoder import backbone
from actors.pictures.codec import BadImageError, decode_rgb, resized_square
from actors.pictures.places import PLACE, read_images
from cluster.content import unhashed
from models.precision import Precision, autocast


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """What the numbers depend on, besides the pictures."""

    backbone: str = unhashed("tiny")
    """CLIP: "tiny", "ARCH/TAG" of open_clip, or "ARCH:FILE" with a local file."""
    precision: Precision = "auto"
    """Arithmetic of both towers; embeddings are stored in float16."""


class Critic:
    """Looks at pictures: the CLIP is loaded once, batches are mapped.

    Reads `id`, `text` (what the picture should show; may be empty) and the place of the image
    (`actors.pictures.places`). Drops text and place, and adds

    - `score`: float32, cosine of CLIP's features of image and text; NaN without text;
    - `embedding`: bytes of float16 (D,), CLIP's feature of the image, of unit length;
    - `hash`: perceptual hash, 64 bits as 16 hex digits (pHash, by `imagehash`);
    - `contrast`: float32, deviation of the pixels of that channel where it is largest, in [0, 0.5];
    - `pixels`: hash of the decoded picture, 32 hex digits, whatever it is encoded as;
    - `reason`: empty, or why the bytes are no picture; the others are then NaN or empty.

    Embedding, hash and contrast are of the centre square in CLIP's size. One decoded picture is in
    memory at a time. device: "cpu" or "cuda".
    """

    def __init__(self, config: CriticConfig, device: str = "cpu") -> None:
        self.config = config
        self.clip = backbone(config.backbone).to(device)
        self.device = torch.device(device)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        columns: dict[str, list[Any]] = defaultdict(list)
        squares: list[np.ndarray] = []
        for data in read_images(batch):
            values = {"contrast": np.nan, "hash": "", "pixels": "", "reason": ""}
            try:
                picture = decode_rgb(data)
            except BadImageError as error:
                values["reason"] = str(error)
            else:
                squares.append(resized_square(picture, *self.clip.square))
                values |= look(squares[-1]) | {"pixels": pixels_digest(picture)}
            for name, item in values.items():
                columns[name].append(item)
        good = np.array([not reason for reason in columns["reason"]])
        embeddings = [b""] * len(good)
        scores = np.full(len(good), np.nan, dtype=np.float32)
        if squares:
            images = self._images(np.stack(squares))
            scores[good] = (images * self._texts(batch["text"][good])).sum(dim=1)
            for row, image in zip(np.flatnonzero(good), images.half().numpy(), strict=True):
                embeddings[row] = image.tobytes()
        scores[batch["text"] == ""] = np.nan
        rest = {name: values for name, values in batch.items() if name not in ("text", *PLACE)}
        return rest | {
            "score": scores,
            "embedding": np.array(embeddings, dtype=object),
            "contrast": np.array(columns["contrast"], dtype=np.float32),
            **{
                name: np.array(columns[name], dtype=object) for name in ("hash", "pixels", "reason")
            },
        }

    @torch.no_grad()
    def _images(self, squares: np.ndarray) -> torch.Tensor:
        """(B, R, R, 3) uint8 to (B, D) float32 of unit length, on the CPU."""
        pixels = torch.from_numpy(squares).permute(0, 3, 1, 2).to(self.device)
        with autocast(self.device, self.config.precision):
            features = self.clip.encode_images(self.clip.normalise(pixels))
        return F.normalize(features.float(), dim=-1).cpu()

    @torch.no_grad()
    def _texts(self, texts: np.ndarray) -> torch.Tensor:
        """(B,) str to (B, D) float32 of unit length, on the CPU; views share their caption's."""
        distinct, which = np.unique(texts.astype(str), return_inverse=True)
        ids = self.clip.tokenizer(distinct.tolist()).to(self.device)
        with autocast(self.device, self.config.precision):
            features = self.clip.encode_text(ids)
        return F.normalize(features.float(), dim=-1).cpu()[torch.from_numpy(which)]


def look(square: np.ndarray) -> dict[str, Any]:
    """`contrast` and `hash` of a picture, uint8 (R, R, 3)."""
    deviation = square.reshape(-1, 3).std(axis=0).max() / 255
    return {"contrast": deviation, "hash": str(imagehash.phash(Image.fromarray(square)))}


def pixels_digest(picture: Image.Image) -> str:
    """32 hex digits over size and pixels."""
    state = blake2b(repr(picture.size).encode(), digest_size=16)
    state.update(picture.tobytes())
    return state.hexdigest()
