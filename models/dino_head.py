"""The projection head of DINO: an MLP to a bottleneck on the unit sphere, then prototypes."""

from dataclasses import dataclass

import torch
from jsonargparse.typing import PositiveInt
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Sizes of a head; the defaults are those released."""

    prototypes: PositiveInt = 4096
    """Outputs of the head."""
    hidden: PositiveInt = 1024
    """Width of the two hidden layers."""
    bottleneck: PositiveInt = 256
    """Width of the unit vectors that are compared with the prototypes."""


class DinoHead(nn.Module):
    """Linear, GELU, linear, GELU, linear, unit length, weight-normed linear without bias.

    Source: DINO (Caron et al., 2021), appendix C, with three layers.
    """

    def __init__(self, dim: int, config: HeadConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.bottleneck),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = Prototypes(config.bottleneck, config.prototypes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) to (B, K) logits, the cosines with the K prototypes."""
        return self.last_layer(normalize(self.mlp(x), dim=-1))


class Prototypes(nn.Module):
    """A linear layer whose rows have length weight_g, which is fixed at 1.

    weight_v: (K, bottleneck), trained; weight_g: (K, 1), kept because checkpoints carry it.
    """

    weight_g: Tensor

    def __init__(self, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.weight_v = nn.Parameter(torch.empty(prototypes, bottleneck))
        nn.init.kaiming_uniform_(self.weight_v, a=5**0.5)
        self.register_buffer("weight_g", torch.ones(prototypes, 1))

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight_g * normalize(self.weight_v, dim=-1))
