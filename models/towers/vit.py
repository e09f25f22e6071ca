"""open_clip's own vision transformer: plain, or with another pool than its class token."""

from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import interpolate

from models.towers.blocks import Blocks, part_names
from models.towers.interface import ImageTower, Maps


class Vit(ImageTower):
    """A vision transformer that is read at its class token.

    Takes pictures of other sizes: the positional embedding is interpolated (bicubic, as DINOv2
    does).
    """

    gifts = frozenset({"patches", "masks", "sizes", "image maps"})
    plain = True

    def __init__(self, visual: Any) -> None:
        self.visual, self.blocks = visual, Blocks()
        self.size, self.patch_size = visual.image_size[0], visual.patch_size[0]
        self.grid = visual.grid_size
        self.width, self.embed_dim = visual.conv1.out_channels, visual.proj.shape[1]
        self.maps = Maps("visual.transformer.resblocks", part_names())

    @staticmethod
    def fits(visual: nn.Module) -> bool:
        """Whether a network is one of these."""
        return (
            isinstance(visual, VisionTransformer)
            and all(type(b) is ResidualAttentionBlock for b in visual.transformer.resblocks)
            and visual.attn_pool is None
            and visual.pool_type == "tok"
            and not visual.final_ln_after_pool
        )

    def tokens(self, images: Tensor, masks: Tensor | None, mask_token: Tensor | None) -> Tensor:
        return self._joint(self._through(images, masks, mask_token))

    def _through(self, images: Tensor, masks: Tensor | None, mask_token: Tensor | None) -> Tensor:
        """(B, 1 + N, width) behind the last block."""
        visual = self.visual
        embedded = visual.conv1(images)
        positions = self._positions((embedded.shape[2], embedded.shape[3]))
        patches = embedded.flatten(2).transpose(1, 2)
        if masks is not None:
            if mask_token is None:
                raise ValueError("masks need a mask_token")
            patches = torch.where(masks.unsqueeze(-1), mask_token.to(patches.dtype), patches)
        cls = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        tokens = torch.cat([cls, patches], dim=1) + positions.to(patches.dtype)
        return self.blocks.through(visual.transformer, visual.ln_pre(tokens), causal=False)

    def _joint(self, x: Tensor) -> Tensor:
        """Tokens (B, L, width) to the joint space."""
        return self.visual.ln_post(x) @ self.visual.proj

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """(1 + N, width) positional embedding for a grid of N patches."""
        embedding: Tensor = self.visual.positional_embedding
        if grid == self.grid:
            return embedding
        plane = embedding[1:].T.view(1, -1, *self.grid)
        resized = interpolate(plane, size=grid, mode="bicubic", align_corners=False)
        return torch.cat([embedding[:1], resized.flatten(2)[0].T])

    def set_recompute(self, on: bool) -> None:
        self.blocks.recompute = on

    def set_compiled(self, on: bool) -> None:
        self.blocks.set_compiled(on)


class PooledVit(Vit):
    """A vision transformer whose feature is a pool of all its tokens, as CoCa's and CLIPA's.

    The feature takes the class token's place. A patch's token is what the pool makes of that patch
    alone, so that it lies in the joint space as the feature does.
    """

    plain = False

    @staticmethod
    def fits(visual: nn.Module) -> bool:
        """Whether a network is one of these."""
        return (
            isinstance(visual, VisionTransformer)
            and all(type(b) is ResidualAttentionBlock for b in visual.transformer.resblocks)
            and visual.pool_type in ("tok", "avg")
            and getattr(visual, "attn_pool_contrastive", None) is None
        )

    def feature(self, images: Tensor) -> Tensor:
        pooled, _ = self.visual._pool(self._through(images, None, None))
        return pooled @ self.visual.proj

    def _joint(self, x: Tensor) -> Tensor:
        visual = self.visual
        pooled, _ = visual._pool(x)
        patches = x[:, 1:]
        if visual.attn_pool is not None:
            patches = _pooled_alone(visual.attn_pool, patches)
        return torch.cat([pooled.unsqueeze(1), visual.ln_post(patches)], dim=1) @ visual.proj


def _pooled_alone(pooler: Any, x: Tensor) -> Tensor:
    """(B, N, width) to (B, N, D): each token as if it were the only one, which is the same for
    every query."""
    alone = pooler.ln_k(x.flatten(0, 1).unsqueeze(1))
    query = pooler.ln_q(pooler.query[:1]).expand(len(alone), 1, -1)
    pooled, _ = pooler.attn(query, alone, alone, need_weights=False)
    return pooled.squeeze(1).unflatten(0, x.shape[:2])
