"""One part of several, by what is given."""

import dataclasses

import pytest

from cluster.content import content_of
from cluster.errors import ConfigError
from cluster.unions import choice, chosen, only_one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Knife:
    """One part."""

    edge: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tool:
    """A union of two."""

    size: int = 3
    knife: Knife | None = choice(Knife)
    spoon: str | None = choice()


def test_the_part_that_is_given_is_chosen_else_the_default() -> None:
    assert chosen(Tool(spoon="wood")) == "wood"
    assert chosen(Tool(knife=Knife(edge=2))) == Knife(edge=2)
    assert chosen(Tool()) == Knife()


def test_two_parts_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^knife: given together with spoon; allowed: one of"):
        chosen(Tool(knife=Knife(), spoon="wood"))


def test_a_choice_more_changes_no_hash() -> None:
    assert content_of(Tool()) == content_of(Tool(spoon="wood")) == {"size": 3}


def test_only_one_of_some_fields() -> None:
    assert only_one(Tool(spoon="wood"), ["knife", "spoon"]) == "spoon"
    assert only_one(Tool(), ["knife", "spoon"]) is None
