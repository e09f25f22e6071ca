"""Whether a base set can teach a backbone with these settings, before Ray Train starts."""

from actors.pretraining.config import PretrainerConfig
from cluster.errors import ConfigError
from models.backbones import load_clip
from models.clip import Clip
from models.methods.needs import require_gifts
from models.moment_dino import MomentDino


def require_trainable(
    pretrainer: PretrainerConfig, backbone: str, captions: int, workers: int
) -> str:
    """Hash of the backbone's weights, if all fits; else ConfigError that names the field.

    captions: of the base set.
    """
    try:
        clip = load_clip(backbone)
        require_teachable(clip, pretrainer)
        MomentDino(clip, pretrainer.model)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    require_batch(pretrainer, captions, workers)
    local = pretrainer.local
    if local.count and local.size % clip.patch_size:
        raise ConfigError(
            f"pretrainer.local.size: {local.size}; allowed: multiples of the backbone's patches "
            f"({clip.patch_size} pixels)"
        )
    return clip.weights_hash


def require_teachable(clip: Clip, pretrainer: PretrainerConfig) -> None:
    """ValueError if a CLIP has not what moment-DINO with these settings needs."""
    require_gifts(clip, {"patches"}, "backbone: moment-DINO")
    if pretrainer.masked_share:
        require_gifts(clip, {"masks"}, "pretrainer.masked_share: masked patches")
    if pretrainer.local.count:
        require_gifts(clip, {"sizes"}, "pretrainer.local.count: local crops")


def require_batch(pretrainer: PretrainerConfig, captions: int, workers: int) -> None:
    """ConfigError if a batch is none of a base set of so many captions; opens nothing."""
    trained_on = captions - pretrainer.count_held_out(captions)
    if not 2 * workers <= pretrainer.batch_size <= trained_on:
        raise ConfigError(
            f"pretrainer.batch_size: {pretrainer.batch_size}; allowed: from {2 * workers} (two a "
            f"worker) to {trained_on}, the captions of the base set that are not held out"
        )
