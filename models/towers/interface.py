"""What Clip asks of its two towers, whatever network open_clip has built."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

Gift = Literal["patches", "masks", "sizes", "names", "image maps", "text maps"]
"""What a method may need of a CLIP besides its two features.

patches: tokens of patches. masks: patches that can be hidden before the first block. sizes:
pictures of another size than its own. names: texts from embeddings, among which learned ones can
stand. image maps, text maps: linear maps of a tower's blocks that take a low-rank update.
"""

Part = Literal["q", "k", "v", "out", "fc", "proj"]
"""Linear maps of a block: queries, keys, values, the attention's output, both of the MLP."""


@dataclass(frozen=True)
class Maps:
    """Where the linear maps of a tower's blocks are."""

    blocks: str
    """Name of the list of blocks in open_clip's model, such as "visual.transformer.resblocks"."""
    parts: Mapping[Part, tuple[str, ...]]
    """Names of each part's maps in a block, once `models.lora` has split what holds several."""


class ImageTower(ABC):
    """Pictures to tokens. Its modules are the model's own, no second copy.

    B images, R input size in pixels, N patches, D size of the joint space.
    """

    size: int
    """R."""
    embed_dim: int
    """D."""
    grid: tuple[int, int] = (0, 0)
    """Rows and columns of patches; (0, 0) without patches."""
    patch_size: int = 0
    """Pixels of a patch's side; 0 without patches."""
    width: int = 0
    """Numbers of a patch before the first block, which is what a mask token has."""
    gifts: frozenset[Gift] = frozenset()
    """What it gives besides its feature."""
    maps: Maps | None = None
    """Linear maps for low-rank updates."""
    recompute = False
    compiled = False
    plain: ClassVar[bool] = False
    """Whether its weights alone say what it computes."""

    @abstractmethod
    def tokens(self, images: Tensor, masks: Tensor | None, mask_token: Tensor | None) -> Tensor:
        """(B, 3, R, R) normalised to (B, 1 + N, D): the image feature, then the patches.

        masks: (B, N) bool, True = the patch is mask_token (1, width) before positions are added.
        """

    def feature(self, images: Tensor) -> Tensor:
        """(B, 3, R, R) normalised to (B, D): what `tokens` has first."""
        return self.tokens(images, None, None)[:, 0]

    def set_recompute(self, on: bool) -> None:
        """Whether the backward pass computes a block's activations again, where it has blocks."""
        self.recompute = on

    def set_compiled(self, on: bool) -> None:
        """Whether its blocks are compiled, where it has blocks."""
        self.compiled = on


class TextTower(ABC):
    """Texts to features. Its modules are the model's own, no second copy.

    B texts, L tokens of a text, W width of the tower, D size of the joint space.
    """

    width: int
    """W."""
    context_length: int
    """Most tokens of a text, start and end token among them."""
    depth: int
    """Blocks."""
    reads_embeddings = True
    """Whether `from_embeddings` is there."""
    trims = False
    """Whether nothing that is read depends on what comes behind the end token."""
    hides_padding: ClassVar[bool] = False
    """Whether it takes ids for padding by what they are."""
    maps: Maps | None = None
    """Linear maps for low-rank updates."""
    recompute = False
    compiled = False

    @property
    def plain(self) -> bool:
        """Whether its weights alone say what it computes."""
        return False

    def positions(self, tokens: int) -> int:
        """How many positions are computed of texts with so many tokens at most."""
        return tokens if self.trims else self.context_length

    def ends(self, ids: Tensor, last: Tensor) -> Tensor:
        """(B,) int64, where each of (B, L) texts ends.

        last: (B,) int64, their last tokens, which it is if the tower does not look for an end.
        """
        return last

    @abstractmethod
    def from_ids(self, ids: Tensor) -> Tensor:
        """(B, L) int64 ids, as the tokenizer gives them, to (B, D), not normalised."""

    @abstractmethod
    def embedding(self, ids: Tensor) -> Tensor:
        """(B, L) int64 ids to (B, L, W), before positions are added."""

    @abstractmethod
    def from_embeddings(self, embeds: Tensor, end: Tensor, pad_id: int) -> Tensor:
        """(B, L, W), L at most `context_length`, to (B, D), not normalised.

        end: (B,) int64, position of each text's end token. What comes behind it does not count: it
        is padding, whatever stands there. pad_id: the tokenizer's.
        """

    def set_recompute(self, on: bool) -> None:
        """Whether the backward pass computes a block's activations again, where it has blocks."""
        self.recompute = on

    def set_compiled(self, on: bool) -> None:
        """Whether its blocks are compiled, where it has blocks."""
        self.compiled = on
