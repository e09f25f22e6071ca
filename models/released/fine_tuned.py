"""ImagineFSL's fine-tuned files to one adapted model with all that it needs, and back."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import ClosedUnitInterval, PositiveFloat, restricted_number_type

from kernels.fusion import Rule
from models.building import clip_from_config
from models.clip import Clip
from models.methods.adapted import Card
from models.methods.imagine_model import ImagineModel
from models.methods.imaginefsl import ImagineFsl, ImagineFslAdapted
from models.methods.selection import Selection
from models.moment_adapter import AdapterConfig, MomentAdapter
from models.released.lora import LoraUpdate, read_visual_model
from models.released.teacher import Inventory, adapter_config, fit, read_state, shapes
from models.weights import State

OWN_CLIP = "clip.safetensors"
"""File for the CLIP with the image tower of a LoRA set; the JSON beside it is `Clip.config`."""
LORA_LOG_TEMPERATURE = math.log(100)
"""Logarithm of the factor on the text logits of ImagineFSL-LoRA, which it does not train."""
LogTemperature = restricted_number_type("LogTemperature", float, [(">=", -7), ("<=", 7)])
"""A logarithm: 100, which is the factor itself, is out of range."""


@dataclass(frozen=True, kw_only=True)
class FineTunedConfig:
    """The files of one fine-tuned model, and what the original tells of it outside of them."""

    adapter: str
    """Local file DATASET_Kshot_adapter.pth, or …_visual_adapter.pth of a LoRA set."""
    visual_head: str
    """Local file …_linear.pth, or …_visual_classifier.pth of a LoRA set."""
    text_head: str
    """Local file …_text.pth, or …_text_classifier.pth of a LoRA set."""
    visual_model: str | None = None
    """Local file …_visual_model.pth of a LoRA set; none: the image tower is plain CLIP's."""
    lora_alpha: PositiveFloat | None = None
    """Alpha of the LoRA update ("lora_scale" there); the rank is read from the file."""
    names: list[str] | str
    """Class names in the order of the heads, or a local file with one per line."""
    fusion_weight: ClosedUnitInterval
    """Weight of the visual head, as the original's fuse_weight."""
    log_temperature: LogTemperature | None = None  # type: ignore[valid-type]
    """Logarithm of the factor on the text head's logits, as the original prints and takes it
    (4.6052 at its start); by default that of the LoRA set, ln 100, which has no other."""
    rule: Rule | None = None
    """How the heads are fused; by default as the original does: normalised, additive for LoRA."""
    dataset: str
    """Name of the dataset of the classes, for the card."""
    templates: str = "simple+cafo"
    """Template set that the text head started from, for the card; predicting needs it no more."""


def read_fine_tuned(
    cfg: FineTunedConfig, clip: Clip, heads: int | None = None
) -> tuple[ImagineFslAdapted, list[Inventory]]:
    """The model that the original's files say, bit for bit, as method "imaginefsl".

    Its `clip` is the given one, or its own for a LoRA set. heads: see `read_teacher`. Raises
    ValueError, naming file and tensors or the field, for whatever does not fit.
    """
    names = _class_names(cfg.names)
    log_temperature, lora, inventories = cfg.log_temperature, None, []
    if cfg.visual_model is not None:
        path = Path(cfg.visual_model)
        visual, lora, inventory = read_visual_model(path, clip, cfg.lora_alpha)
        inventories.append(inventory)
        state = clip.model.state_dict() | {f"visual.{name}": t for name, t in visual.items()}
        clip = clip_from_config(clip.config, state, f"config:{OWN_CLIP}")
        log_temperature = LORA_LOG_TEMPERATURE if log_temperature is None else log_temperature
    if log_temperature is None:
        raise ValueError("log_temperature: none; allowed: the one stated with the files")
    sizes, adapter, inventory = _adapter(Path(cfg.adapter), clip.embed_dim, heads)
    model = ImagineModel(clip.embed_dim, len(names), sizes, precision="fp32")
    inventories += [inventory, *_read_heads(model, cfg)]
    model.adapter.load_state_dict(adapter)
    with torch.no_grad():
        model.log_temperature.fill_(log_temperature)
    return ImagineFslAdapted(_card(cfg, names, sizes, lora, clip), clip, model), inventories


def write_fine_tuned(folder: Path, name: str, adapted: ImagineFslAdapted) -> None:
    """{name}_adapter.pth, _linear.pth, _text.pth, and {name}.json, which imports them again.

    What the original's layout has no place for is folded into the visual head, in float64: the
    moments' mean and scale, and the visual temperature. The JSON holds the rest.
    """
    model, selection, card = adapted.model, adapted.card.selection, adapted.card
    head = model.visual_head
    weight = head.weight.detach().double() / model.deviation.double()
    bias = head.bias.detach().double() - weight @ model.mean.double()
    text = {f"text_classifier.{key}": t for key, t in model.text_head.state_dict().items()}
    files: dict[str, State] = {
        "adapter": {f"adapter.{key}": t for key, t in model.adapter.state_dict().items()},
        "linear": {
            "linear.weight": (weight / selection.visual_temperature).float(),
            "linear.bias": (bias / selection.visual_temperature).float(),
        },
        # the original saves a second bias, which its code never reads
        "text": {"bias": torch.zeros_like(model.text_head.bias), **text},
    }
    places = {part: folder.absolute() / f"{name}_{part}.pth" for part in files}
    for part, state in files.items():
        torch.save({key: tensor.detach().cpu() for key, tensor in state.items()}, places[part])
    settings = FineTunedConfig(
        adapter=str(places["adapter"]),
        visual_head=str(places["linear"]),
        text_head=str(places["text"]),
        names=card.names,
        fusion_weight=selection.fusion_weight,
        log_temperature=model.log_temperature.item(),
        rule=selection.rule,
        dataset=card.dataset,
        templates=card.hyper.get("templates", card.template),
    )
    content = {"backbone": card.backbone, "heads": model.adapter.config.heads, **asdict(settings)}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False))


def _card(
    cfg: FineTunedConfig,
    names: list[str],
    adapter: AdapterConfig,
    lora: LoraUpdate | None,
    clip: Clip,
) -> Card:
    hyper: dict[str, Any] = {"adapter": asdict(adapter), "precision": "fp32"}
    hyper |= {"templates": cfg.templates, "lora": lora and asdict(lora)}
    rule = cfg.rule or ("normalised" if lora is None else "additive")
    return Card(
        method=ImagineFsl.name,
        dataset=cfg.dataset,
        names=names,
        hint="",
        template="",
        backbone=clip.backbone,
        weights_hash=clip.weights_hash,
        hyper=hyper,
        seed=0,
        selection=Selection("fused", fusion_weight=cfg.fusion_weight, rule=rule),
    )


def _adapter(path: Path, dim: int, heads: int | None) -> tuple[AdapterConfig, State, Inventory]:
    state = read_state(path)
    config = adapter_config(path, state, heads)
    with torch.device("meta"):
        expected = shapes(MomentAdapter(dim, config).state_dict())
    fit(path, state, {f"adapter.{name}": s for name, s in expected.items()}, "adapter")
    weights = {name.removeprefix("adapter."): tensor for name, tensor in state.items()}
    return config, weights, Inventory(path.name, {"adapter": len(weights)}, {})


def _read_heads(model: ImagineModel, cfg: FineTunedConfig) -> list[Inventory]:
    """Fills both heads of the model from their files."""
    plain, inventories = cfg.visual_model is None, []
    for field, head, layer in (
        ("visual_head", model.visual_head, "linear"),
        ("text_head", model.text_head, "text_classifier" if plain else "linear"),
    ):
        path = Path(getattr(cfg, field))
        state = read_state(path)
        weights = dict(state)
        ignored: dict[str, str] = {}
        if plain and field == "text_head" and weights.pop("bias", None) is not None:
            ignored["bias"] = "a second bias that the original never uses"
        if not plain:  # released both with and without
            weights.setdefault(f"{layer}.bias", torch.zeros_like(head.bias))
        expected = {f"{layer}.{key}": tuple(t.shape) for key, t in head.state_dict().items()}
        fit(path, weights, expected, f"{field} of {model.visual_head.out_features} classes")
        head.load_state_dict({key.removeprefix(f"{layer}."): t for key, t in weights.items()})
        inventories.append(Inventory(path.name, {field: len(state) - len(ignored)}, ignored))
    return inventories


def _class_names(names: list[str] | str) -> list[str]:
    """Class names, trimmed; two classes may have one. ValueError if one is empty, or for a file."""
    if isinstance(names, str):
        raise ValueError(f"names: {names!r}; allowed: a list of names, as its file holds them")
    trimmed = [name.strip() for name in names]
    if "" in trimmed:
        raise ValueError(f"names: class {trimmed.index('')} has an empty one; allowed: a name each")
    return trimmed
