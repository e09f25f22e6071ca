"""timm's transformers: EVA and EVA-02, PE, SigLIP, MobileCLIP's larger ones, ViTamin."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from open_clip.timm_model import TimmModel
from timm.layers import AttentionPoolLatent
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import linear

from models.towers.interface import Gift, ImageTower, Maps, Part


class TimmTransformer(ImageTower):
    """A timm transformer over patches, behind it open_clip's projection.

    The feature comes first, whatever it is pooled from: of a tower without a class token it takes
    that one's place, in tokens and in moments. A patch's token is what the tower's pool and
    projection make of that patch alone, so that it lies in the joint space as the feature does.
    Patches are hidden behind their embedding, before positions are added and the first block.
    """

    def __init__(self, visual: Any, embed_dim: int) -> None:
        self.visual, trunk = visual, visual.trunk
        self.size, self.embed_dim = trunk.patch_embed.img_size[0], embed_dim
        self.grid = tuple(trunk.patch_embed.grid_size)
        self.patch_size = self.size // self.grid[0]
        self.width = trunk.embed_dim
        gifts: set[Gift] = {"patches"}
        if _apart(trunk.patch_embed):
            gifts.add("masks")
        if parts := _parts(trunk.blocks[0]):
            self.maps = Maps("visual.trunk.blocks", parts)
            gifts.add("image maps")
        self.gifts = frozenset(gifts)

    @staticmethod
    def fits(visual: nn.Module) -> bool:
        """Whether a network is one of these."""
        trunk = getattr(visual, "trunk", None)
        return (
            isinstance(visual, TimmModel)
            and isinstance(trunk, Eva | VisionTransformer)
            and getattr(trunk.patch_embed, "grid_size", None) is not None
        )

    def tokens(self, images: Tensor, masks: Tensor | None, mask_token: Tensor | None) -> Tensor:
        trunk, head = self.visual.trunk, self.visual.head
        with self._hidden(masks, mask_token):
            x = trunk.forward_features(images)
        feature = head(trunk.forward_head(x))
        patches = x[:, trunk.num_prefix_tokens :]
        alone = patches.flatten(0, 1)
        if trunk.attn_pool is not None:
            alone = _pooled_alone(trunk.attn_pool, alone)
        alone = head(trunk.head(trunk.fc_norm(alone))).unflatten(0, patches.shape[:2])
        return torch.cat([feature.unsqueeze(1), alone.to(feature.dtype)], dim=1)

    def feature(self, images: Tensor) -> Tensor:
        return self.visual(images)  # patches are not pooled one by one

    @contextmanager
    def _hidden(self, masks: Tensor | None, mask_token: Tensor | None) -> Iterator[None]:
        """While a forward pass runs, masked patches are the mask token behind their embedding."""
        if masks is None:
            yield
            return
        if mask_token is None:
            raise ValueError("masks need a mask_token")

        def hide(_module: nn.Module, _inputs: Any, patches: Tensor) -> Tensor:
            at = masks.view(*patches.shape[:-1], 1)  # (B, N, 1), or rows and columns apart
            return torch.where(at, mask_token.to(patches.dtype), patches)

        hook = self.visual.trunk.patch_embed.register_forward_hook(hide)
        try:
            yield
        finally:
            hook.remove()

    def set_recompute(self, on: bool) -> None:
        self.visual.trunk.set_grad_checkpointing(on)

    def set_compiled(self, on: bool) -> None:
        for block in self.visual.trunk.blocks:
            block._compiled_call_impl = None
            if on:
                block.compile()


def _pooled_alone(pool: Any, x: Tensor) -> Tensor:
    """(B, W) to (B, W), what an attention pool makes of each token as if it were the only one: then
    its weight is 1 whatever is asked, and neither queries nor keys are needed."""
    if type(pool) is not AttentionPoolLatent or pool.pos_embed is not None or not pool.pool:
        return pool(x.unsqueeze(1))
    bias = None if pool.kv.bias is None else pool.kv.bias.chunk(2)[1]
    x = pool.proj(linear(x, pool.kv.weight.chunk(2)[1], bias))
    return x if pool.mlp is None else x + pool.mlp(pool.norm(x))


def _apart(embedding: nn.Module) -> bool:
    """Whether no patch is embedded with pixels of another: strides as large as kernels."""
    layers = list(embedding.modules())
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    return all(
        layer.kernel_size == layer.stride and not any(_numbers(layer.padding))
        for layer in convolutions
    ) and not any(isinstance(layer, nn.GroupNorm) for layer in layers)


def _numbers(padding: Any) -> tuple[int, ...]:
    return (1,) if isinstance(padding, str) else tuple(padding)


_NAMES: dict[Part, tuple[tuple[str, ...], ...]] = {
    "q": (("attn.q_proj",), ("attn.qkv.q",)),
    "k": (("attn.k_proj",), ("attn.qkv.k",)),
    "v": (("attn.v_proj",), ("attn.qkv.v",)),
    "out": (("attn.proj",),),
    "fc": (("mlp.fc1",), ("mlp.fc1_g", "mlp.fc1_x"), ("mlp.w0", "mlp.w1")),
    "proj": (("mlp.fc2",), ("mlp.w2",)),
}
"""Of each part the names that timm's blocks have for its maps."""


def _parts(block: Any) -> dict[Part, tuple[str, ...]]:
    """Linear maps of a block by part, fused ones as `models.lora` splits them; empty if one is not
    there."""
    names = {name for name, layer in block.named_modules() if isinstance(layer, nn.Linear)}
    if "attn.qkv" in names:
        names |= {"attn.qkv.q", "attn.qkv.k", "attn.qkv.v"}
    parts = {
        part: next((maps for maps in choices if names.issuperset(maps)), ())
        for part, choices in _NAMES.items()
    }
    return parts if all(parts.values()) else {}
