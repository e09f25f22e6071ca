"""Painters: captions to pictures. A row that cannot be painted is kept with its reason; a
machine fault is raised."""

import numpy as np

from actors.factors import FACTORS
from actors.images import png_bytes
from actors.sprite_painter import Scene, paint


class SpritePainter:
    """Paints rows from their factors with the embedded sprites.

    Reads `id`, `class_name`, the five factors and `reason` (of the caption; such a row is not
    painted). Adds `image` (PNG bytes; empty if refused) and sets `reason`.
    """

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        images, reasons = [], []
        for i, row_id in enumerate(batch["id"]):
            scene = Scene(
                str(batch["class_name"][i]), **{name: str(batch[name][i]) for name in FACTORS}
            )
            reason = str(batch["reason"][i]) or scene.refusal()
            images.append(b"" if reason else png_bytes(paint(scene, str(row_id))))
            reasons.append(reason)
        return batch | {
            "image": np.array(images, dtype=object),
            "reason": np.array(reasons, dtype=object),
        }
