"""Names among the tokens of CLIP's own tokenizer."""

import re
from collections.abc import Sequence
from typing import cast

from open_clip import SimpleTokenizer

from models.prompts.interface import Context, Ids, PromptTokenizer, any_of, pieces_of

_PUNCTUATION = re.compile(r"(?:[^\s\w]|_)+")
"""What CLIP's tokenizer takes for one word with punctuation before it."""


class ClipsPromptTokenizer(PromptTokenizer):
    """Tokenises piece by piece, which is the same as the whole text at once, because names begin
    and end at word borders.

    Only punctuation that touches a name which itself ends in punctuation ("C++,") is cut at the
    name's border, so that the name has its tokens in every caption. In a template, where a name
    that is not learned has to be zero-shot CLIP's, `named` says which tokens are the name's.
    """

    pad = 0

    def __init__(self, tokenizer: SimpleTokenizer) -> None:
        self._tokenizer = tokenizer
        self.room = cast(int, tokenizer.context_length) - 2
        self.start, self.end = (tokenizer.sot_token_id,), (tokenizer.eot_token_id,)

    def name(self, name: str) -> Ids:
        """Token ids of a class name, "_" read as a space. ValueError if it has none or too many."""
        ids = tuple(self._tokenizer.encode(self.clean_name(name)))
        self._require_room(name, ids)
        return ids

    def template(self, template: str) -> Context:
        """The context of a template with `{name}` in it, such as "a photo of {name}."."""
        return self._context(pieces_of(template))

    def before(self, template: str) -> Ids:
        return self.template(template).pieces[0]

    def named(self, template: str, names: Sequence[str]) -> tuple[list[Context], list[Ids]]:
        """Behind a name that ends in punctuation the template's own punctuation is one word with it
        ("C++,"). Where its tokens cannot be told apart ("+,") they are the name's (our choice)."""
        plain, (before, *after) = self.template(template), pieces_of(template)
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
        clean = [self.clean_name(name) for name in names]
        any_name = any_of(clean)
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

    def _context(self, pieces: Sequence[str]) -> Context:
        return Context(tuple(tuple(self._tokenizer.encode(piece)) for piece in pieces))

    def clean_name(self, name: str) -> str:
        """The name as the tokenizer reads it: lower case, "_" as a space, single spaces."""
        return self._clean(name.replace("_", " "))

    def _clean(self, text: str) -> str:
        return self._tokenizer.clean_fn(text)
