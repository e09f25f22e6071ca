"""The ways to adapt, by name; the one interface they share is `models.methods.adapted.Method`."""

from pathlib import Path

from models.clip import Clip
from models.methods.adapted import Adapted, Method, read_saved
from models.methods.class_means import ClassMeans
from models.methods.clip_adapter import ClipAdapter
from models.methods.clip_lora import ClipLora
from models.methods.cocoop import CoCoOp
from models.methods.coop import CoOp
from models.methods.fsnl import Fsnl
from models.methods.imaginefsl import ImagineFsl
from models.methods.imaginefsl_lora import ImagineFslLora
from models.methods.linear_probe import LinearProbe
from models.methods.taskres import TaskRes
from models.methods.tip_adapter import TipAdapter, TipAdapterF
from models.methods.zero_shot import ZeroShot

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        ZeroShot,
        LinearProbe,
        ClassMeans,
        TipAdapter,
        TipAdapterF,
        ClipAdapter,
        TaskRes,
        CoOp,
        CoCoOp,
        ClipLora,
        Fsnl,
        ImagineFsl,
        ImagineFslLora,
    )
}


def load_adapted(folder: str | Path, clip: Clip) -> Adapted:
    """The model that `Adapted.save` wrote, on the CLIP it was made with, and where that one lies.

    Raises ValueError, naming file and field, if it is not complete, is of a method that is not
    known, was made on another CLIP, or has tensors that do not fit.
    """
    card, tensors = read_saved(folder, clip)
    if card.method not in METHODS:
        raise ValueError(f"{folder}: method {card.method!r}; allowed are {sorted(METHODS)}")
    here = {name: tensor.to(clip.mean.device) for name, tensor in tensors.items()}
    return METHODS[card.method].restore(card, here, clip)
