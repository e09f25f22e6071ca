"""Trains the tiny CLIP of the embedded world on scenes of IP concepts, in one process,
restartable at any step."""

import dataclasses
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from jsonargparse.typing import ClosedUnitInterval, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from actors.embedded.training_scenes import BootstrapScenes, ip_concepts
from cluster.content import unhashed

ARCHITECTURE: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": 5, "width": 128, "patch_size": 8, "head_width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3},
}
"""open_clip's model config of the tiny CLIP: 1.2 M visual parameters; the token table is most
of the text tower."""
ARTIST_SHARES = {"openmoji": 0.4, "twemoji": 0.4, "noto": 0.2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipTrainerConfig:
    """How the tiny CLIP is trained."""

    steps: PositiveInt = 3000
    """Optimiser steps in all."""
    batch_size: PositiveInt = 256
    """Scenes per step, each of another concept: a caption names one scene of the batch only."""
    lr: PositiveFloat = 1.5e-3
    """Peak AdamW learning rate, reached after `warmup` steps, then down to zero by a cosine."""
    warmup: NonNegativeInt = 200
    """Steps of linear warm-up."""
    weight_decay: PositiveFloat = 0.05
    """On weight matrices only; never on the token table, whose unseen rows must stay as they
    were drawn."""
    patch_dropout: ClosedUnitInterval = 0.4
    """Share of patches that the visual tower does not see (FLIP, Li et al., 2023): cheaper
    steps. None at the end."""
    whole_image_share: ClosedUnitInterval = 0.12
    """Share of the steps, the last ones, that see every patch, as at test."""
    ema: PositiveFloat = 0.998
    """Momentum of the averaged weights that are published."""
    save_every: PositiveInt = unhashed(200)
    """Steps between checkpoints."""
    seed: NonNegativeInt = 0
    """Seeds the weights, the order of concepts and every scene."""


class ClipTrainer:
    """All state of a training run: weights, their average, optimiser moments, the step that
    comes next."""

    def __init__(self, config: ClipTrainerConfig) -> None:
        self.config, self.step = config, 0
        torch.manual_seed(config.seed)
        vision = ARCHITECTURE["vision_cfg"] | {"patch_dropout": config.patch_dropout}
        self.model = open_clip.CLIP(**ARCHITECTURE | {"vision_cfg": vision})
        self.average = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        decayed = [
            p for n, p in self.model.named_parameters() if p.ndim == 2 and "embedding" not in n
        ]
        decayed_ids = {id(p) for p in decayed}
        others = [p for p in self.model.parameters() if id(p) not in decayed_ids]
        groups: list[dict[str, Any]] = [
            {"params": decayed},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay
        )
        self.tokenize = open_clip.SimpleTokenizer()
        self.concepts = ip_concepts()
        self.scenes = BootstrapScenes(
            self.concepts, ARTIST_SHARES, ARCHITECTURE["vision_cfg"]["image_size"]
        )

    def learning_rate(self) -> float:
        """Learning rate of the coming step."""
        config = self.config
        if self.step < config.warmup:
            return config.lr * (self.step + 1) / config.warmup
        done = (self.step - config.warmup) / max(1, config.steps - config.warmup)
        return config.lr * 0.5 * (1 + math.cos(math.pi * done))

    def concept_rows(self) -> np.ndarray:
        """Concept numbers of the coming step, (batch_size,), none twice; a function of seed and
        step alone."""
        per_epoch = len(self.concepts) // self.config.batch_size
        epoch, batch = divmod(self.step, per_epoch)
        order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.concepts))
        return order[batch * self.config.batch_size : (batch + 1) * self.config.batch_size]

    def train(self) -> Iterator[dict[str, float]]:
        """Goes on to the last step; yields the metrics of each step after it was taken."""
        while self.step < self.config.steps:
            whole = self.step >= self.config.steps * (1 - self.config.whole_image_share)
            self.model.visual.patch_dropout.prob = 0.0 if whole else self.config.patch_dropout
            torch.manual_seed(self.config.seed * 10**9 + self.step)  # for the dropped patches
            images, captions = self.scenes.batch(
                self.concept_rows(), seed=self.config.seed * 10**9 + self.step
            )
            ids = self.tokenize(captions)
            ids = ids[:, : int(ids.argmax(dim=1).max()) + 1]
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate()
            with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
                z, t = self._features(images, ids)
            logits = self.model.logit_scale.exp() * z.float() @ t.float().T
            target = torch.arange(len(logits))
            loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            with torch.no_grad():
                self.model.logit_scale.clamp_(0, math.log(100))
                for name, tensor in self.model.state_dict().items():
                    self.average[name].lerp_(
                        tensor, 1 - min(self.config.ema, (1 + self.step) / (10 + self.step))
                    )
            self.step += 1
            right = (logits.argmax(dim=1) == target).float().mean()
            yield {
                "step": self.step,
                "loss": loss.item(),
                "top1": right.item(),
                "lr": self.learning_rate(),
            }

    def _features(self, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        statistics = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in statistics)
        return self.model.encode_image((images - mean) / std, normalize=True), self._encode_text(
            ids
        )

    def _encode_text(self, ids: Tensor) -> Tensor:
        """open_clip's text tower on prompts cut to the longest one: it is causal, so nothing
        else changes."""
        model, length = self.model, ids.shape[1]
        x = model.token_embedding(ids) + model.positional_embedding[:length]
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
        return F.normalize(
            x[torch.arange(len(ids)), ids.argmax(dim=1)] @ model.text_projection, dim=-1
        )

    def save(self, path: Path) -> None:
        """Writes the whole state aside, then renames it into place."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        aside = path.with_suffix(".part")
        torch.save(state, aside)
        os.replace(aside, path)

    def load(self, path: Path) -> None:
        """Takes up the state that `save` wrote."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self.step = state["average"], state["step"]
