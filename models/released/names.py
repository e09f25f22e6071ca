"""FSNL's own checkpoint of learned names, as LAION-Beyond's code saves it, in and out.

`name_learner/model-best.pth.tar` or `…/model.pth.tar-EPOCH` holds, under "state_dict", a tensor
`name_embeddings.NAME` for each class, NAME in lower case with "." as a space, and CLIP's own table
of tokens. Of what else it holds (the optimiser, the epoch) nothing is read.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from models.clip import Clip
from models.methods.adapted import Card
from models.methods.fsnl import Fsnl, FsnlAdapted, FsnlHyper
from models.methods.selection import Selection
from models.name_learner import NameLearner
from models.prompts.interface import fsnl_template
from models.released.teacher import Inventory, fit, read_state, require_near

VOCABULARY = 49_408
"""Tokens of CLIP's, where a config does not say."""
NAME, TABLE = "name_embeddings.", "clip_model_token_embedding.weight"


@dataclass(frozen=True, kw_only=True)
class NamesConfig:
    """A checkpoint of learned names, and what it does not tell."""

    file: str
    """Local file model-best.pth.tar or model.pth.tar-EPOCH of a `name_learner` folder."""
    names: list[str] | str = field(default_factory=list)
    """Class names in the order of their labels, or a local file with one per line; by default those
    of the file, in its order."""
    hint: str
    """What the classes are, as in the original's prompt "a photo of NAME, a type of HINT."."""
    dataset: str
    """Name of the dataset of the classes, for the card."""


def read_names(cfg: NamesConfig, clip: Clip) -> tuple[FsnlAdapted, Inventory]:
    """The model that the file says, as method "fsnl".

    A name may have as many embeddings as the file gives it, as with N_CTX, or where the original
    took "_" for a token. Its text feature is the original's; where a class name stands within
    another one or in the hint, the original put embeddings there, too, which is not done here.
    Raises ValueError, naming file and tensors or the field, for whatever does not fit.
    """
    path = Path(cfg.file)
    state = read_state(path)
    keys = [name.removeprefix(NAME) for name in state if name.startswith(NAME)]
    names = list(cfg.names) or keys
    if not names or isinstance(cfg.names, str):
        raise ValueError(f"{path} has no tensor {NAME}…; allowed: a checkpoint of learned names")
    wanted = [_key(name) for name in names]
    if twice := {key for key in wanted if wanted.count(key) > 1}:
        raise ValueError(f"names: {sorted(twice)} twice; allowed: each once, in any case")
    if unknown := [name for name, key in zip(names, wanted, strict=True) if key not in keys]:
        raise ValueError(f"names: {unknown[:5]} are not in {path}; allowed: {sorted(keys)[:5]}, …")
    learned = {NAME + key: state.pop(NAME + key) for key in wanted}
    left_out = {name: "a class that is not asked for" for name in state if name != TABLE}
    shapes: dict[str, tuple[int, ...]]
    shapes = {n: (len(t) if t.ndim else 0, clip.text_width) for n, t in learned.items()}
    fit(path, learned, shapes, "names")
    ignored = dict(left_out)
    if TABLE in state:
        table = {TABLE: _table(clip)}
        fit(path, {TABLE: state[TABLE]}, {TABLE: tuple(table[TABLE].shape)}, "token table")
        farthest = require_near(path, {TABLE: state[TABLE]}, table, clip)
        ignored[TABLE] = f"{clip.backbone} has it, within {farthest:.0e} of its length"
    embeddings = list(learned.values())
    NameLearner(clip, names, cfg.hint, dict(enumerate(embeddings)))  # refuses what fits no prompt
    card = Card(
        method=Fsnl.name,
        dataset=cfg.dataset,
        names=[name.replace("_", " ") for name in names],
        hint=cfg.hint,
        template=fsnl_template(cfg.hint).replace("{name}", "{}"),
        backbone=clip.backbone,
        weights_hash=clip.weights_hash,
        hyper=json.loads(json.dumps(asdict(FsnlHyper()))),
        seed=0,
        selection=Selection("text"),
    )
    return FsnlAdapted(card, clip, embeddings), Inventory(path.name, {"names": len(names)}, ignored)


def write_names(folder: Path, name: str, adapted: FsnlAdapted) -> None:
    """{name}.pth.tar, which the original loads, and {name}.json, which imports it again.

    Raises ValueError if two class names are one there, or the model blends in a teacher's adapter,
    for which the file has no place.
    """
    card = adapted.card
    if adapted.adapter is not None:
        raise ValueError(f"adapted_weight: {card.hyper['adapted_weight']}; allowed: 0")
    keys = [_key(class_name) for class_name in card.names]
    if len(set(keys)) < len(keys):
        raise ValueError("names: two of them are one in lower case; allowed: each once")
    state: dict[str, Tensor] = {
        NAME + key: tensor.detach().cpu()
        for key, tensor in zip(keys, adapted.tensors().values(), strict=True)
    }
    state[TABLE] = _table(adapted.clip).cpu()
    file = folder.absolute() / f"{name}.pth.tar"
    torch.save({"state_dict": state, "epoch": 0}, file)
    told = NamesConfig(file=str(file), names=card.names, hint=card.hint, dataset=card.dataset)
    content = {"backbone": card.backbone, **asdict(told)}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False))


def _table(clip: Clip) -> Tensor:
    """CLIP's embeddings of all tokens."""
    tokens = clip.config["text_cfg"].get("vocab_size", VOCABULARY)
    return clip.token_embedding(torch.arange(tokens, device=clip.mean.device)).detach()


def _key(name: str) -> str:
    """A class name as the original calls its tensor."""
    return name.replace(".", " ").lower()
