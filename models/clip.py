"""A CLIP and its kin, frozen, behind one small interface; open_clip has weights and shapes."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from kernels.attention import attention
from models.tokenizers import pad_id, tokenizer
from models.towers.gifts import gifts_of
from models.towers.interface import Gift, ImageTower, TextTower
from models.towers.preprocessing import CLIPS_OWN, Preprocessing


class Clip(nn.Module):
    """A frozen CLIP in evaluation mode: no parameter takes a gradient, inputs and mask tokens do.

    Letters: B images or texts, R input size in pixels, N patches, W width of a tower, D size of the
    joint space, L tokens of a text.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: Any,
        image: ImageTower,
        text: TextTower,
        backbone: str,
        config: Mapping[str, Any],
        preprocessing: Preprocessing = CLIPS_OWN,
    ) -> None:
        """model: open_clip's. image, text: its towers (`models.towers.registry`)."""
        super().__init__()
        self.model, self.image, self.text = model, image, text
        self.backbone = backbone
        """What `models.backbones.load_clip` takes to load it again."""
        self.config = dict(config)
        """open_clip's model config with `quick_gelu` as the weights want it."""
        self.preprocessing = preprocessing
        self.image_size: int = image.size
        self.patch_size: int = image.patch_size
        """Pixels; 0 without patches."""
        self.grid: tuple[int, int] = image.grid
        """Rows and columns of patches; (0, 0) without patches."""
        self.num_tokens: int = 1 + math.prod(self.grid)
        self.embed_dim: int = image.embed_dim
        self.vision_width: int = image.width
        self.text_width: int = text.width
        self.logit_scale: float = model.logit_scale.exp().item()
        """Factor on cosine similarities (an inverse temperature)."""
        bias = getattr(model, "logit_bias", None)
        self.logit_bias: float = 0.0 if bias is None else bias.item()
        """What weights trained with a sigmoid add to every logit; no softmax feels it."""
        self.weights_hash: str = _hash_of(model.state_dict(), self._marks())
        self.register_buffer("mean", _channels(preprocessing.mean), persistent=False)
        self.register_buffer("std", _channels(preprocessing.std), persistent=False)
        self.requires_grad_(False)
        super().train(False)

    def _marks(self) -> str:
        """What features depend on besides the weights, where it is not as in CLIP's own."""
        if self.plain and self.preprocessing == CLIPS_OWN:
            return ""
        config = {} if self.plain else {**self.config, "text_cfg": {**self.config["text_cfg"]}}
        for place in ("hf_tokenizer_name", "hf_model_name"):  # a folder may move
            config.get("text_cfg", {}).pop(place, None)
        return json.dumps([config, asdict(self.preprocessing)], sort_keys=True)

    @property
    def plain(self) -> bool:
        """Whether weights alone say what is computed, as those of OpenAI's vision transformers."""
        return self.image.plain and self.text.plain

    @property
    def square(self) -> tuple[int, str, str]:
        """What `actors.pictures.codec.resized_square` takes beside a picture: size, crop or squash,
        interpolation."""
        return self.image_size, self.preprocessing.resize, self.preprocessing.interpolation

    @property
    def gifts(self) -> frozenset[Gift]:
        """What methods may use besides the two features."""
        return gifts_of(self.image, self.text)

    @cached_property
    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """Texts to (B, L) int64 ids, L as many as the text tower reads; longer texts are cut, the
        end token stays. ValueError if its files are not there and cannot be fetched."""
        return tokenizer(self.backbone, self.config["text_cfg"])

    @property
    def recompute(self) -> bool:
        """Whether the backward pass through a tower computes its activations again."""
        return self._recompute

    @recompute.setter
    def recompute(self, on: bool) -> None:
        self._recompute = on
        self.image.set_recompute(on)
        self.text.set_recompute(on)

    _recompute = False

    def compile_blocks(self, on: bool = True) -> None:
        """Whether the blocks of both towers are compiled."""
        self.image.set_compiled(on)
        self.text.set_compiled(on)

    def train(self, mode: bool = True) -> "Clip":
        """Stays in evaluation mode whatever its parent is set to."""
        return self

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 3, R, R) uint8, or float in [0, 1], to float by the weights' means and deviations."""
        scaled = images.float() / 255 if images.dtype == torch.uint8 else images
        return (scaled - self.mean) / self.std

    def encode_tokens(
        self, images: Tensor, masks: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tensor:
        """The image feature and all patches, in the joint space.

        images: (B, 3, R, R) normalised; of a plain CLIP another size R has another number N of
        patches. masks: (B, N) bool, True = the patch is replaced by mask_token (1, W) after patch
        embedding and before the positional embedding is added. Returns (B, 1 + N, D); token 0 is
        the image feature, not normalised: the class token's, or where the tower has none what it
        pools, which takes that one's place. Without patches N is 0.
        Source of the masking: iBOT (Zhou et al., 2022), section 3.1.
        """
        return self.image.tokens(images, masks, mask_token)

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3, R, R) normalised to (B, D): the image feature alone, not normalised."""
        return self.image.feature(images)

    def encode_text(self, ids: Tensor) -> Tensor:
        """(B, L) int64 ids, as the tokenizer gives them, to (B, D), not normalised."""
        return self.text.from_ids(ids)

    def token_embedding(self, ids: Tensor) -> Tensor:
        """(B, L) int64 ids to (B, L, W): the text tower's input, before positions are added."""
        return self.text.embedding(ids)

    def encode_embeddings(self, embeds: Tensor, eot: Tensor) -> Tensor:
        """The text tower from given input embeddings (learned names are put in among them).

        embeds: (B, L, W), L at most what the tower reads; eot: (B,) int64, position of each text's
        end token, below L; what stands behind it does not count. Returns (B, D), not normalised.
        """
        return self.text.from_embeddings(embeds, eot, pad_id(self.tokenizer))


def residual_block(block: Any, x: Tensor, causal: bool, mask: Tensor | None = None) -> Tensor:
    """What open_clip's ResidualAttentionBlock computes, (B, L, W) to as much.

    open_clip's nn.MultiheadAttention turns the batch inside out before the first product, which
    under autocast copies the weights once for every token. A `models.lora.SplitAttention` may stand
    in that one's place. mask: of `attention`.
    """
    attend, y = block.attn, block.ln_1(x)
    if isinstance(attend, nn.MultiheadAttention):
        y = linear(y, attend.in_proj_weight, attend.in_proj_bias)
    else:
        y = attend.in_proj(y)
    q, k, v = y.unflatten(-1, (3, attend.num_heads, -1)).permute(2, 0, 3, 1, 4)
    y = attention(q, k, v, causal=causal, mask=mask).transpose(1, 2).flatten(2)
    x = x + block.ls_1(attend.out_proj(y))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def _channels(numbers: tuple[float, ...]) -> Tensor:
    return torch.tensor(numbers).view(1, 3, 1, 1)


def _hash_of(state: Mapping[str, Tensor], marks: str) -> str:
    """32 hex digits over names, shapes and bytes of all weights, and a text."""
    digest = blake2b(marks.encode(), digest_size=16)
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
