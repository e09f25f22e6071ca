"""Prompts that know where the class name stands: token ids, and which of them are the name's.

The name is put into a slot and keeps its place by construction. In a free caption it is found by
its label, at word borders and longest name first, never as a substring ("ant" in "plant", "panda"
in "red panda").
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from open_clip import SimpleTokenizer
from torch import Tensor
from torch.nn.functional import pad

from models.clip import Clip

SLOT = "{name}"
FSNL_TEMPLATE = "a photo of {name}, a type of {hint}."
"""The hand prompt of FSNL (LAION-Beyond); `hint` says what the classes are, such as "animal"."""

Ids = tuple[int, ...]
_PUNCTUATION = re.compile(r"(?:[^\s\w]|_)+")
"""What CLIP's tokenizer takes for one word with punctuation before it."""


@dataclass(frozen=True)
class Context:
    """A text around its class name: the pieces' token ids; the name stands between two pieces."""

    pieces: tuple[Ids, ...]


@dataclass(frozen=True)
class Prompts:
    """B prompts cut to the longest, L tokens (start and end token included).

    ids: (B, L) int64, 0 behind the end token. name_token: (B, L) int64, which token of the row's
    own name stands here (0, 1, …), −1 elsewhere. eot: (B,) int64, position of the end token.
    """

    ids: Tensor
    name_token: Tensor
    eot: Tensor

    def padded(self, length: int) -> "Prompts":
        """The same prompts in `length` positions, for comparison: what is added changes nothing."""
        more = (0, length - self.ids.shape[1])
        return Prompts(pad(self.ids, more), pad(self.name_token, more, value=-1), self.eot)


class PromptTokenizer:
    """Tokenises names and the texts around them with a CLIP's own tokenizer.

    Piece by piece is the same as the whole text at once, because names begin and end at word
    borders; only punctuation that touches a name which itself ends in punctuation ("C++,") is cut
    at the name's border, so that the name has its tokens in every caption. In a template, where a
    name that is not learned has to be zero-shot CLIP's, `named` says which tokens are the name's.
    """

    def __init__(self, clip: Clip) -> None:
        if not isinstance(clip.tokenizer, SimpleTokenizer):
            kind = type(clip.tokenizer).__name__
            raise ValueError(f"backbone {clip.backbone}: names cannot be located with a {kind}")
        self._tokenizer = cast(SimpleTokenizer, clip.tokenizer)
        self.room = cast(int, self._tokenizer.context_length) - 2
        """Tokens of a prompt besides its start and end token."""

    def name(self, name: str) -> Ids:
        """Token ids of a class name, "_" read as a space. ValueError if it has none or too many."""
        ids = tuple(self._tokenizer.encode(self.clean_name(name)))
        self._require_room(name, ids)
        return ids

    def _require_room(self, name: str, ids: Ids) -> None:
        if not 1 <= len(ids) <= self.room:
            raise ValueError(f"class name {name!r} has {len(ids)} tokens; allowed 1 to {self.room}")

    def template(self, template: str) -> Context:
        """The context of a template with `{name}` in it, such as "a photo of {name}."."""
        if SLOT not in template:
            raise ValueError(f"template {template!r} has no {SLOT}")
        return self._context(template.split(SLOT))

    def named(self, template: str, names: Sequence[str]) -> tuple[list[Context], list[Ids]]:
        """For each name the context of a template and the name's ids in it.

        Filled, they are the tokens of the whole text: behind a name that ends in punctuation the
        template's own punctuation is one word with it ("C++,"). Where its tokens cannot be told
        apart ("+,") they are the name's (our choice). Raises ValueError as `template` and `name`.
        """
        plain, (before, *after) = self.template(template), template.split(SLOT)
        touching = _PUNCTUATION.match(after[0])
        if touching is None or len(after) > 1:
            return [plain] * len(names), [self.name(name) for name in names]
        mark = touching.group()
        cut = self._context([before, after[0].removeprefix(mark)])
        behind = tuple(self._tokenizer.encode(mark))
        contexts: list[Context] = []
        ids: list[Ids] = []
        for name in names:
            self.name(name)  # refuses one without tokens of its own
            both = tuple(self._tokenizer.encode(self.clean_name(name) + mark))
            apart = both[-len(behind) :] == behind
            contexts.append(plain if apart else cut)
            ids.append(both[: -len(behind)] if apart else both)
            self._require_room(name, ids[-1])
        return contexts, ids

    def captions(
        self, captions: Sequence[str], labels: Sequence[int], names: Sequence[str]
    ) -> list[Context | None]:
        """Per caption, its context with slots where its label's name stood; None if nowhere.

        names: all class names of the label space: a place that a longer name takes is not a
        shorter one's. Letter case does not matter.
        """
        clean = [self.clean_name(name) for name in names]
        any_name = _any_of(clean)
        return [
            self._caption(self._clean(caption), clean[label], any_name)
            for caption, label in zip(captions, labels, strict=True)
        ]

    def _caption(self, text: str, name: str, any_name: re.Pattern[str]) -> Context | None:
        pieces, start = [], 0
        for match in any_name.finditer(text):
            if match.group() == name:
                pieces.append(text[start : match.start()])
                start = match.end()
        return self._context([*pieces, text[start:]]) if pieces else None

    def fill(self, contexts: Sequence[Context], names: Sequence[Ids]) -> Prompts:
        """Puts names[i] into contexts[i]; a text too long loses context, never its first name.

        It is cut at the end, and at the beginning only where the name would not fit otherwise.
        """
        rows = [self._row(context, name) for context, name in zip(contexts, names, strict=True)]
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.int64)
        name_token = torch.full((len(rows), longest), -1)
        for i, (row, places) in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            name_token[i, : len(row)] = torch.tensor(places)
        return Prompts(ids, name_token, torch.tensor([len(row) - 1 for row, _ in rows]))

    def _row(self, context: Context, name: Ids) -> tuple[list[int], list[int]]:
        ids, places = list(context.pieces[0]), [-1] * len(context.pieces[0])
        for piece in context.pieces[1:]:
            ids += [*name, *piece]
            places += [*range(len(name)), *[-1] * len(piece)]
        first = max(0, len(context.pieces[0]) + len(name) - self.room)
        ids, places = ids[first : first + self.room], places[first : first + self.room]
        start, end = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        return [start, *ids, end], [-1, *places, -1]

    def _context(self, pieces: Sequence[str]) -> Context:
        return Context(tuple(tuple(self._tokenizer.encode(piece)) for piece in pieces))

    def clean_name(self, name: str) -> str:
        """The name as the tokenizer reads it: lower case, "_" as a space, single spaces."""
        return self._clean(name.replace("_", " "))

    def _clean(self, text: str) -> str:
        return self._tokenizer.clean_fn(text)


def require_readable(clip: Clip, names: Sequence[str], context: int = 0) -> None:
    """ValueError for a name that has no token, or more than the text tower reads.

    context: tokens that stand before every name. Of a tokenizer other than CLIP's own nothing is
    known.
    """
    if not isinstance(clip.tokenizer, SimpleTokenizer):
        return
    tokenizer = PromptTokenizer(clip)
    room = tokenizer.room - context
    for name, ids in zip(names, tokenizer.named(FSNL_TEMPLATE, names)[1], strict=True):
        if len(ids) > room:
            raise ValueError(f"class name {name!r} has {len(ids)} tokens; allowed 1 to {room}")


def fsnl_template(hint: str) -> str:
    """FSNL's hand prompt for one dataset, with `{name}` left open."""
    return FSNL_TEMPLATE.replace("{hint}", hint)


def _any_of(names: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(set(names), key=len, reverse=True)
    either = "|".join(re.escape(name) for name in longest_first)
    return re.compile(rf"(?<![^\W_])(?:{either})(?![^\W_])")  # no letter or digit on either side
