"""What every method gives back: a classifier that predicts, says how it was made, and can be saved.

On disk: `adapted.safetensors` (what was learned) and `adapted.json` (all that is needed to predict
with it besides the frozen CLIP, which it names and whose weights' hash it carries).
"""

import json
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from os.path import isfile
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.clip import Clip
from models.methods.card_checks import read_card_file
from models.methods.selection import Selection
from models.task import Reads, Task
from models.towers.interface import Gift
from models.weights import read_safetensors

TENSORS, CARD = "adapted.safetensors", "adapted.json"
OTHER = -1
"""In a label space, the place of a class that is not one of the model's own."""

Watch = Callable[[dict[str, float]], None]
"""Called at evaluation points with `step`, `loss`, and of val `val_accuracy` and `val_loss`."""

WatchMany = Callable[[int, dict[str, float]], bool]
"""A Watch over several members, called with one's place; says whether that member goes on."""


@dataclass(frozen=True)
class Card:
    """All of an adapted model that is not a tensor."""

    method: str
    dataset: str
    names: list[str]
    hint: str
    template: str
    backbone: str
    weights_hash: str
    hyper: dict[str, Any]
    seed: int
    selection: Selection

    @classmethod
    def of(cls, method: str, task: Task, hyper: Any, seed: int, selection: Selection) -> "Card":
        """hyper: the method's dataclass of hyper-parameters."""
        clip = task.clip
        return cls(
            method=method,
            dataset=task.dataset,
            names=list(task.names),
            hint=task.hint,
            template=task.template,
            backbone=clip.backbone,
            weights_hash=clip.weights_hash,
            hyper=json.loads(json.dumps(asdict(hyper))),  # as it is read back: lists, not tuples
            seed=seed,
            selection=selection,
        )


class Adapted(ABC):
    """A classifier for one dataset.

    N images, T = 1 + P tokens (0 the class token), D channels, C names, R CLIP's input size.
    """

    open_vocabulary: ClassVar[bool] = False
    """Whether it can answer in any label space, not only in its task's; the logit of a name does
    not depend on the other names then."""
    reads: Reads = "tokens"
    """What its `heads` take: CLIP's frozen tokens (N, T, D) of any float dtype, of which T may be 1
    where the class token is enough, or pictures (N, 3, R, R) uint8, on the CLIP's device."""

    def __init__(self, card: Card, clip: Clip) -> None:
        self.card = card
        self.clip = clip

    @abstractmethod
    def heads(
        self,
        tokens: Tensor,
        names: Sequence[str] | None = None,
        own: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        """Logits (N, C) of every head. tokens: (N, T, D), or pictures (see `reads`).

        names: the label space, by default the names of the task. own: of each name the place of its
        class among the task's, OTHER for a class that is not one of them; by default a name is the
        task's class of that name. Raises ValueError if the method has learned a classifier per
        class and the names are others, or if without `own` a name leaves open which class it is.
        """

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What was learned, as it is saved."""

    def logits(
        self,
        tokens: Tensor,
        names: Sequence[str] | None = None,
        own: Sequence[int] | None = None,
    ) -> Tensor:
        """Logits (N, C) of the head that was chosen on val; see `heads`."""
        return self.heads(tokens, names, own)[self.card.selection.head]

    def save(self, folder: str | Path) -> None:
        """Writes both files; the card last, so that a folder with a card is complete."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.tensors().items()}
        save_file(tensors, path / TENSORS)
        (path / CARD).write_text(json.dumps(asdict(self.card), indent=1, ensure_ascii=False))

    def _label_space(
        self, names: Sequence[str] | None, own: Sequence[int] | None
    ) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The names and places of `heads`, without defaults."""
        if names is None:
            return tuple(self.card.names), tuple(range(len(self.card.names)))
        return tuple(names), tuple(own_places(names, self.card.names) if own is None else own)

    def _only_own_names(self, names: Sequence[str] | None, own: Sequence[int] | None) -> None:
        every = list(range(len(self.card.names)))
        others = own is not None and list(own) != every
        if names is not None and (list(names) != self.card.names or others):
            raise ValueError(
                f"{self.card.method} has one classifier per trained class; names: allowed are the "
                f"{len(self.card.names)} of {self.card.dataset}, in their order, got {list(names)}"
            )


def own_places(names: Sequence[str], own_names: Sequence[str]) -> list[int]:
    """Of each name its place among a model's own names, OTHER if it is none of them.

    Several of one name are taken in their order. Raises ValueError if a name that several classes
    have is not there as often among both, for then which of them is meant stays open.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(own_names):
        places[name].append(place)
    times = Counter(names)
    for name, of_name in places.items():
        if times[name] not in (0, len(of_name)):
            raise ValueError(
                f"names: {name!r} is {len(of_name)} classes of the model, but {times[name]} of "
                "those to choose from; allowed: as many, or the places of the classes"
            )
    return [places[name].pop(0) if places[name] else OTHER for name in names]


class Method(ABC):
    """One way to adapt; no state, so `METHODS[name].fit(...)` is all that is called."""

    name: ClassVar[str]
    Hyper: ClassVar[type[Any]]
    """Frozen dataclass of the hyper-parameters, with their defaults."""
    reads: ClassVar[Reads] = "tokens"
    """What it learns from. Of a task it always gets tokens, the class token at least; pictures only
    if it reads them."""
    context: ClassVar[str] = ""
    """Template whose text before the class name a prompt needs room for; "" if none."""
    asks: ClassVar[frozenset[Gift]] = frozenset()
    """What every fit asks of a CLIP besides its two features and the tokens that it reads."""

    @classmethod
    def reads_patches(cls, hyper: Any, searched: Collection[str]) -> bool:
        """Whether a fit reads more tokens than the class token; searched: hyper-parameters that a
        search may change."""
        return cls.reads == "tokens"

    @classmethod
    def needs(cls, hyper: Any, searched: Collection[str]) -> frozenset[Gift]:
        """What it asks of a CLIP besides its two features; searched: see `reads_patches`."""
        patches: frozenset[Gift] = frozenset({"patches"})
        return cls.asks | patches if cls.reads_patches(hyper, searched) else cls.asks

    @staticmethod
    @abstractmethod
    def fit(
        task: Task,
        hyper: Any,
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        watch: Watch | None = None,
    ) -> Adapted:
        """Learns from the task's train split, chooses on its val split, and sees nothing else.

        teacher: the pretrained teacher's tensors (`adapter.*` among them), for methods that start
        from one; the others refuse it with ValueError.
        """

    @classmethod
    def fit_many(
        cls,
        task: Task,
        hypers: Sequence[Any],
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        watch: WatchMany | None = None,
    ) -> list[Adapted | None]:
        """`fit` for every member of a search, here one by one; None for one that was stopped.

        A member's model is the one that `fit` gives, but for the rounding of sums.
        """

        def fit_one(member: int, hyper: Any) -> Adapted | None:
            def watch_one(metrics: dict[str, float]) -> None:
                if watch is not None and not watch(member, metrics):
                    raise _StoppedError

            try:
                return cls.fit(task, hyper, seed, teacher, watch and watch_one)
            except _StoppedError:
                return None

        return [fit_one(member, hyper) for member, hyper in enumerate(hypers)]

    @staticmethod
    @abstractmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> Adapted:
        """The model that `Adapted.save` wrote; ValueError if the tensors do not fit the card."""


class _StoppedError(Exception):
    """Leaves `fit` at an evaluation point."""


def read_saved(folder: str | Path, clip: Clip) -> tuple[Card, dict[str, Tensor]]:
    """Both files of a saved model, checked against the CLIP that is to carry it.

    Raises ValueError, naming file and field, for a missing file, a card that `read_card` refuses,
    numbers that are not finite, and a model made on another backbone or other weights. Of a
    backbone in a local file the file may have moved: its architecture and the hash of its weights
    must be the same.
    """
    path, card = Path(folder), read_card(folder)
    for field in ("backbone", "weights_hash"):
        saved, actual = getattr(card, field), getattr(clip, field)
        if saved.partition(":")[0] != actual.partition(":")[0]:
            raise ValueError(f"{path / CARD}: {field} is {saved!r}, the given CLIP's {actual!r}")
    return card, read_safetensors(path / TENSORS)


def read_card(folder: str | Path) -> Card:
    """The card of a saved model.

    Raises ValueError, naming file and field, if it is not complete or a value is not allowed.
    """
    path = Path(folder)
    for file in (CARD, TENSORS):
        if not isfile(path / file):
            raise ValueError(f"{path}: no {file}, so no complete adapted model")
    raw = read_card_file(path / CARD)
    curve = tuple((float(w), float(a)) for w, a in raw["selection"]["curve"])
    return Card(**{**raw, "selection": Selection(**{**raw["selection"], "curve": curve})})


def exactly(tensors: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], method: str) -> None:
    """Raises ValueError naming every tensor that is missing, unknown or of another shape."""
    actual = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wrong = [
        f"{name}: expected {shapes.get(name, 'none')}, found {actual.get(name, 'none')}"
        for name in sorted(shapes.keys() | actual.keys())
        if shapes.get(name) != actual.get(name)
    ]
    if wrong:
        raise ValueError(f"tensors do not fit a {method} model: {'; '.join(wrong)}")


def refuse_teacher(method: str, teacher: dict[str, Tensor] | None) -> None:
    """Refuses a teacher for methods that have no part to start from it, instead of ignoring it."""
    if teacher is not None:
        raise ValueError(f"{method} learns without a teacher; teacher: allowed is none")


def class_tokens(tokens: Tensor) -> Tensor:
    """CLIP's image features of unit norm, float32: (..., T, D) tokens to (..., D)."""
    return torch.nn.functional.normalize(tokens[..., 0, :].float(), dim=-1)


def val_metrics(selection: Selection) -> dict[str, float]:
    """`val_accuracy` and `val_loss` for a Watch; nothing where there is no val."""
    metrics = {"val_accuracy": selection.val_accuracy, "val_loss": selection.val_loss}
    return {name: value for name, value in metrics.items() if value is not None}
