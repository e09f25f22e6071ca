"""Names among the tokens of a fast tokenizer of transformers, found by the places of characters."""

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from open_clip.tokenizer import HFTokenizer
from torch import Tensor

from models.clip import Clip
from models.prompts.interface import SLOT, Context, Ids, PromptTokenizer, any_of, pieces_of
from models.tokenizers import pad_id

TEXTS_PER_PASS = 1024

Span = tuple[int, int]
"""Where something stands in a text: its first character, and the one behind its last."""


class FastPromptTokenizer(PromptTokenizer):
    """Tokenises the whole text with the name in it; the name's tokens are those of its characters.

    Texts are cleaned before, so places are those of the cleaned text. A token that holds characters
    of the name and of its context ("++,") is the name's. So is one that holds nothing but the space
    before the name: words of a SentencePiece vocabulary begin with theirs. A name in which a text
    would end ("</s>") is refused; in captions such tokens are left out.
    """

    def __init__(self, clip: Clip) -> None:
        """ValueError, in one line, for a tokenizer that does not say where its tokens stand, or
        pads or cuts on the left."""
        _require_located(clip)
        wrapper: Any = clip.tokenizer
        self._fast, self._text = wrapper.tokenizer, clip.text
        sides = self._fast.padding_side, self._fast.truncation_side
        if sides != ("right", "right"):
            raise ValueError(
                f"backbone {clip.backbone}: its tokenizer pads on the {sides[0]} and cuts on the "
                f"{sides[1]}; allowed for learned names: right"
            )
        self._clean = wrapper.clean_fn
        self._clips = wrapper.tokenizer_mode == "clips"
        self._zeroed = {self._fast.sep_token_id} if wrapper.strip_sep_token else set()
        self._length: int = wrapper.context_length
        self.pad = pad_id(wrapper)
        self.start, self.end = self._added()
        self._reserved = {*self.end, *((self.pad,) if clip.text.hides_padding else ())}
        self._behind: Ids = (self._fast.cls_token_id,) if self._clips else ()
        self.room = self._length - len(self.start) - len(self.end) - len(self._behind)

    def _added(self) -> tuple[Ids, Ids]:
        """Ids that the tokenizer itself puts in front of a text and behind it."""
        if self._clips:
            return (self._fast.bos_token_id,), (self._fast.eos_token_id,)
        text = self._fast("a", return_special_tokens_mask=True)
        ids, special = self._stripped(text["input_ids"]), text["special_tokens_mask"]
        before = len(list(takewhile(bool, special)))
        after = len(list(takewhile(bool, reversed(special[before:]))))
        return ids[:before], ids[len(ids) - after :]

    def _stripped(self, ids: Sequence[int]) -> Ids:
        return tuple(0 if i in self._zeroed else i for i in ids)

    def before(self, template: str) -> Ids:
        text = self._clean(pieces_of(template)[0])
        ((ids, _),) = self._tokens([text])
        return ids

    def named(self, template: str, names: Sequence[str]) -> tuple[list[Context], list[Ids]]:
        """Where the name's place cannot be told in the cleaned text, because something was cleaned
        away across its border, what stands around it is cleaned apart from it (our choice)."""
        contexts: list[Context] = []
        ids: list[Ids] = []
        places = [self._placed(template, name) for name in names]
        tokens = self._tokens([text for text, _ in places])
        for name, (text, spans), of_text in zip(names, places, tokens, strict=True):
            context, slots = _apart(text, *of_text, spans)
            of_name = slots[0] if slots else ()
            self._require_room(name, of_name)
            if self._reserved.intersection(of_name):
                raise ValueError(f"class name {name!r} has a token that ends a text")
            contexts.append(context)
            ids.append(of_name)
        return contexts, ids

    def _placed(self, template: str, name: str) -> tuple[str, list[Span]]:
        """The cleaned text of a template with a name in it, and the places of the name there."""
        pieces, of_name = pieces_of(template), self.clean_name(name)
        if not of_name:
            self._require_room(name, ())
        cleaned = [self._clean(piece) for piece in pieces]
        pattern = re.compile(f" ?({re.escape(of_name)}) ?".join(map(re.escape, cleaned)))
        text = self._clean(template.replace(SLOT, name.replace("_", " ")))
        match = pattern.fullmatch(text)
        if match is None:
            text = of_name.join(map(_spaced, pieces, cleaned)).strip()
            match = pattern.fullmatch(text)
        assert match is not None  # by construction of the text
        return text, [match.span(i) for i in range(1, len(pieces))]

    def captions(
        self, captions: Sequence[str], labels: Sequence[int], names: Sequence[str]
    ) -> list[Context | None]:
        clean = [self.clean_name(name) for name in names]
        any_name = any_of([name for name in clean if name], re.IGNORECASE)
        texts = [self._clean(caption) for caption in captions]
        places = [
            [
                match.span()
                for match in any_name.finditer(text)
                if match.group().lower() == clean[label].lower()
            ]
            for text, label in zip(texts, labels, strict=True)
        ]
        rows = [row for row, spans in enumerate(places) if spans]
        contexts: list[Context | None] = [None] * len(texts)
        for row, of_text in zip(rows, self._tokens([texts[row] for row in rows]), strict=True):
            context, slots = _apart(texts[row], *of_text, places[row])
            if slots:
                pieces = (tuple(i for i in p if i not in self._reserved) for p in context.pieces)
                contexts[row] = Context(tuple(pieces))
        return contexts

    def clean_name(self, name: str) -> str:
        """The name as the tokenizer reads it, "_" as a space, single spaces."""
        return self._clean(name.replace("_", " "))

    def _tokens(self, texts: Sequence[str]) -> Iterator[tuple[Ids, list[Span]]]:
        """Ids of cleaned texts and where their tokens stand; nothing is added or cut."""
        for first in range(0, len(texts), TEXTS_PER_PASS):
            encoded = self._fast(
                list(texts[first : first + TEXTS_PER_PASS]),
                add_special_tokens=False,
                return_offsets_mapping=True,
                verbose=False,
            )
            for ids, spans in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
                yield self._stripped(ids), spans

    def _row(self, context: Context, name: Ids) -> tuple[list[int], list[int]]:
        ids, places = super()._row(context, name)
        if self._behind:  # padding stands before what is behind it
            missing = self._length - len(ids) - len(self._behind)
            ids += [self.pad] * missing + [*self._behind]
            places += [-1] * (missing + len(self._behind))
        return ids, places

    def _ends(self, ids: Tensor, last: Tensor) -> Tensor:
        return self._text.ends(ids, last)


def _require_located(clip: Clip) -> None:
    """ValueError, in one line, if names cannot be located among a tokenizer's tokens."""
    kind: Any = clip.tokenizer
    if isinstance(kind, HFTokenizer):
        kind = kind.tokenizer
        if kind.is_fast:
            return
    raise ValueError(
        f"backbone {clip.backbone}: names cannot be located with a {type(kind).__name__}; allowed: "
        "CLIP's own tokenizer, or a fast one of transformers"
    )


def _apart(
    text: str, ids: Ids, stands: Sequence[Span], names: Sequence[Span]
) -> tuple[Context, list[Ids]]:
    """The tokens of a text as those of its names, in their order, and what is left around them.

    stands: where each token stands. names: where names stand; one without a token is none.
    """
    pieces, slots, done = [], [], 0
    for start, stop in names:
        left = start - (text[start - 1 : start] == " ")
        at = [
            token
            for token, (first, last) in enumerate(stands)
            if token >= done
            and ((first < stop and start < last) or (left <= first and last <= start))
        ]
        if at:
            pieces.append(ids[done : at[0]])
            slots.append(ids[at[0] : at[-1] + 1])
            done = at[-1] + 1
    return Context((*pieces, ids[done:])), slots


def _spaced(piece: str, cleaned: str) -> str:
    """A cleaned piece with a space on each side where there was one."""
    return " " * piece[:1].isspace() + cleaned + " " * piece[-1:].isspace()
