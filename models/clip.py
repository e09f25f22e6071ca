"""CLIP's two towers, frozen, behind one small interface; open_clip has weights and shapes."""

import math
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import blake2b
from typing import Any

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear
from torch.utils.checkpoint import checkpoint

from kernels.attention import attention


class Clip(nn.Module):
    """A frozen CLIP in evaluation mode: no parameter takes a gradient, inputs and mask tokens do.

    Letters: B images or texts, R input size in pixels, N patches, W width of a tower, D size of the
    joint space, L tokens of a text.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: open_clip.CLIP,
        backbone: str,
        config: Mapping[str, Any],
        mean: tuple[float, ...] = OPENAI_DATASET_MEAN,
        std: tuple[float, ...] = OPENAI_DATASET_STD,
    ) -> None:
        super().__init__()
        _check_supported(model, backbone)
        self.model = model
        self.backbone = backbone
        """What `models.backbones.load_clip` takes to load it again."""
        self.config = dict(config)
        """open_clip's model config with `quick_gelu` as the weights want it."""
        self.image_size: int = model.visual.image_size[0]
        self.patch_size: int = model.visual.patch_size[0]
        self.grid: tuple[int, int] = model.visual.grid_size
        """Rows and columns of patches."""
        self.num_tokens: int = 1 + math.prod(self.grid)
        self.embed_dim: int = model.visual.proj.shape[1]
        self.vision_width: int = model.visual.proj.shape[0]
        self.text_width: int = model.token_embedding.embedding_dim
        self.logit_scale: float = model.logit_scale.exp().item()
        """Factor on cosine similarities (an inverse temperature)."""
        self.weights_hash: str = _hash_of(model.state_dict())
        self.tokenizer: Callable[[list[str]], Tensor] = _tokenizer(model.context_length)
        """Texts to (B, 77) int64 ids; longer texts are cut, the end token stays."""
        self.recompute = False
        """Whether the backward pass through a tower computes its activations again."""
        self.block: Callable[[Any, Tensor, bool], Tensor] = residual_block
        """How a block of either tower is computed; a compiled `residual_block` may stand here."""
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> "Clip":
        """Stays in evaluation mode whatever its parent is set to."""
        return self

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 3, R, R) uint8, or float in [0, 1], to float by CLIP's means and deviations."""
        scaled = images.float() / 255 if images.dtype == torch.uint8 else images
        return (scaled - self.mean) / self.std

    def encode_tokens(
        self, images: Tensor, masks: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tensor:
        """All tokens of the image tower after its last layer norm and its projection.

        images: (B, 3, R, R) normalised; another size R has another number N of patches, for which
        the positional embedding is interpolated (bicubic, as DINOv2 does). masks: (B, N) bool, True
        = the patch is replaced by mask_token (1, W) after patch embedding and before the positional
        embedding is added. Returns (B, 1 + N, D); token 0 is CLIP's image feature, not normalised.
        Source of the masking: iBOT (Zhou et al., 2022), section 3.1.
        """
        visual = self.model.visual
        embedded = visual.conv1(images)
        positions = self._positions((embedded.shape[2], embedded.shape[3]))
        patches = embedded.flatten(2).transpose(1, 2)
        if masks is not None:
            if mask_token is None:
                raise ValueError("masks need a mask_token")
            patches = torch.where(masks.unsqueeze(-1), mask_token.to(patches.dtype), patches)
        cls = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        tokens = torch.cat([cls, patches], dim=1) + positions.to(patches.dtype)
        tokens = self._through(visual.transformer, visual.ln_pre(tokens), causal=False)
        return visual.ln_post(tokens) @ visual.proj

    def _through(self, transformer: Any, x: Tensor, causal: bool) -> Tensor:
        """The blocks of one tower; x: (B, L, W)."""
        for block in transformer.resblocks:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(self.block, block, x, causal, use_reentrant=False)
            else:
                x = self.block(block, x, causal)
        return x

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """(1 + N, W) positional embedding for a grid of N patches."""
        embedding: Tensor = self.model.visual.positional_embedding
        if grid == self.grid:
            return embedding
        plane = embedding[1:].T.view(1, -1, *self.grid)
        resized = interpolate(plane, size=grid, mode="bicubic", align_corners=False)
        return torch.cat([embedding[:1], resized.flatten(2)[0].T])

    def encode_text(self, ids: Tensor) -> Tensor:
        """(B, 77) int64 ids to (B, D), not normalised.

        Only as many positions are computed as the longest text has: the tower is causal, so what
        comes after the end token changes nothing.
        """
        eot = ids.argmax(dim=-1)  # the end token has the highest id of all
        longest = int(eot.max()) + 1
        return self.encode_embeddings(self.token_embedding(ids[:, :longest]), eot)

    def token_embedding(self, ids: Tensor) -> Tensor:
        """(B, L) int64 ids to (B, L, W): the text tower's input, before positions are added."""
        return self.model.token_embedding(ids)

    def encode_embeddings(self, embeds: Tensor, eot: Tensor) -> Tensor:
        """The text tower from given input embeddings (learned names are put in among them).

        embeds: (B, L, W), L <= 77; eot: (B,) int64, position of each text's end token, below L.
        Returns (B, D), not normalised.
        """
        x = embeds + self.model.positional_embedding[: embeds.shape[1]].to(embeds.dtype)
        x = self._through(self.model.transformer, x, causal=True)
        x = self.model.ln_final(x)[torch.arange(len(x), device=x.device), eot]
        return x @ self.model.text_projection


def residual_block(block: Any, x: Tensor, causal: bool) -> Tensor:
    """What open_clip's ResidualAttentionBlock computes, (B, L, W) to as much.

    open_clip's nn.MultiheadAttention turns the batch inside out before the first product, which
    under autocast copies the weights once for every token. A `models.lora.SplitAttention` may stand
    in that one's place.
    """
    attend, y = block.attn, block.ln_1(x)
    if isinstance(attend, nn.MultiheadAttention):
        y = linear(y, attend.in_proj_weight, attend.in_proj_bias)
    else:
        y = attend.in_proj(y)
    q, k, v = y.unflatten(-1, (3, attend.num_heads, -1)).permute(2, 0, 3, 1, 4)
    y = attention(q, k, v, causal=causal).transpose(1, 2).flatten(2)
    x = x + block.ls_1(attend.out_proj(y))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


@cache  # it reads and unpacks 49,152 merges, the same for every CLIP
def _tokenizer(context_length: int) -> open_clip.SimpleTokenizer:
    return open_clip.SimpleTokenizer(context_length=context_length)


def _check_supported(model: nn.Module, backbone: str) -> None:
    visual = getattr(model, "visual", None)
    plain = (
        isinstance(model, open_clip.CLIP)
        and isinstance(visual, open_clip.transformer.VisionTransformer)
        and visual.attn_pool is None
        and visual.pool_type == "tok"
        and not visual.final_ln_after_pool
        and model.text_pool_type == "argmax"
        and model.attn_mask is not None
        and isinstance(model.text_projection, nn.Parameter)
        and all(
            type(block) is open_clip.transformer.ResidualAttentionBlock
            for block in [*visual.transformer.resblocks, *model.transformer.resblocks]
        )
    )
    if not plain:
        raise ValueError(
            f"backbone: {backbone!r} is a {type(model).__name__}; allowed are open_clip.CLIP "
            "models with a vision transformer read at its class token and a causal text tower"
        )


def _hash_of(state: Mapping[str, Tensor]) -> str:
    """32 hex digits over names, shapes and bytes of all weights."""
    digest = blake2b(digest_size=16)
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
