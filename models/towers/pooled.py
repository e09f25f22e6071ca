"""Networks of which only the feature is read: ResNets, ConvNeXt, FastViT, Swin."""

from typing import Any

from torch import Tensor

from models.towers.interface import ImageTower


class Pooled(ImageTower):
    """Any image network of open_clip: one token, its feature."""

    def __init__(self, visual: Any, embed_dim: int) -> None:
        size = visual.image_size
        self.visual, self.embed_dim = visual, embed_dim
        self.size = size if isinstance(size, int) else size[0]

    def tokens(self, images: Tensor, masks: Tensor | None, mask_token: Tensor | None) -> Tensor:
        if masks is not None:
            raise ValueError("masks: this image tower has no patches")
        out = self.visual(images)
        feature: Tensor = out[0] if isinstance(out, tuple) else out
        return feature.unsqueeze(1)
