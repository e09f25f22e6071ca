"""Prompts that know where the class name stands: token ids, and which of them are the name's.

The name is put into a slot and keeps its place by construction. In a free caption it is found by
its label, at word borders and longest name first, never as a substring ("ant" in "plant", "panda"
in "red panda").
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

SLOT = "{name}"
FSNL_TEMPLATE = "a photo of {name}, a type of {hint}."
"""The hand prompt of FSNL (LAION-Beyond); `hint` says what the classes are, such as "animal"."""

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Context:
    """A text around its class name: the pieces' token ids; the name stands between two pieces."""

    pieces: tuple[Ids, ...]


@dataclass(frozen=True)
class Prompts:
    """B prompts cut to the longest, L tokens (start and end token included).

    ids: (B, L) int64, the tokenizer's padding behind the end. name_token: (B, L) int64, which token
    of the row's own name stands here (0, 1, …), −1 elsewhere. eot: (B,) int64, position of the end
    token, of the last token where there is none, or where the text tower looks for the end.
    """

    ids: Tensor
    name_token: Tensor
    eot: Tensor

    def padded(self, length: int) -> "Prompts":
        """The same prompts in `length` positions, for comparison: what is added changes nothing."""
        more = (0, length - self.ids.shape[1])
        return Prompts(pad(self.ids, more), pad(self.name_token, more, value=-1), self.eot)


class PromptTokenizer(ABC):
    """Tokenises names and the texts around them with a CLIP's own tokenizer."""

    start: Ids
    """Ids in front of every text."""
    end: Ids
    """Ids behind every text."""
    pad: int
    """Id behind those."""
    room: int
    """Tokens of a prompt besides what the tokenizer itself adds."""

    @abstractmethod
    def before(self, template: str) -> Ids:
        """Ids of what stands in front of the name in a template, such as "a photo of {name}.".

        ValueError if no `{name}` is in it.
        """

    @abstractmethod
    def named(self, template: str, names: Sequence[str]) -> tuple[list[Context], list[Ids]]:
        """For each name the context of a template and the name's ids in it; "_" reads as a space.

        Filled, they are the tokens of the whole text. Raises ValueError for a template without
        `{name}`, and for a name that has no token or too many.
        """

    @abstractmethod
    def captions(
        self, captions: Sequence[str], labels: Sequence[int], names: Sequence[str]
    ) -> list[Context | None]:
        """Per caption, its context with slots where its label's name stood; None if nowhere.

        names: all class names of the label space: a place that a longer name takes is not a
        shorter one's. Letter case does not matter.
        """

    def fill(self, contexts: Sequence[Context], names: Sequence[Ids]) -> Prompts:
        """Puts names[i] into contexts[i]; a text too long loses context, never its first name.

        It is cut at the end, and at the beginning only where the name would not fit otherwise.
        """
        rows = [self._row(context, name) for context, name in zip(contexts, names, strict=True)]
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.full((len(rows), longest), self.pad)
        name_token = torch.full((len(rows), longest), -1)
        for i, (row, places) in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            name_token[i, : len(row)] = torch.tensor(places)
        last = torch.tensor([len(row) - 1 for row, _ in rows])
        return Prompts(ids, name_token, self._ends(ids, last))

    def _row(self, context: Context, name: Ids) -> tuple[list[int], list[int]]:
        ids, places = list(context.pieces[0]), [-1] * len(context.pieces[0])
        for piece in context.pieces[1:]:
            ids += [*name, *piece]
            places += [*range(len(name)), *[-1] * len(piece)]
        first = max(0, len(context.pieces[0]) + len(name) - self.room)
        ids, places = ids[first : first + self.room], places[first : first + self.room]
        outside = [-1] * len(self.start), [-1] * len(self.end)
        return [*self.start, *ids, *self.end], [*outside[0], *places, *outside[1]]

    def _ends(self, ids: Tensor, last: Tensor) -> Tensor:
        """(B,) where texts of (B, L) ids end; last: (B,), their last tokens before padding."""
        return last

    def _require_room(self, name: str, ids: Ids) -> None:
        if not 1 <= len(ids) <= self.room:
            raise ValueError(f"class name {name!r} has {len(ids)} tokens; allowed 1 to {self.room}")


def pieces_of(template: str) -> list[str]:
    """The texts around the name in a template; ValueError if no name has a place in it."""
    if SLOT not in template:
        raise ValueError(f"template {template!r} has no {SLOT}")
    return template.split(SLOT)


def fsnl_template(hint: str) -> str:
    """FSNL's hand prompt for one dataset, with `{name}` left open."""
    return FSNL_TEMPLATE.replace("{hint}", hint)


def any_of(names: Sequence[str], flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
    """Any of these names in a text, the longest first; no letter or digit stands on either side."""
    longest_first = sorted(set(names), key=len, reverse=True)
    either = "|".join(re.escape(name) for name in longest_first)
    return re.compile(rf"(?<![^\W_])(?:{either})(?![^\W_])", flags)
