"""Caption writers: each a stage of Ray Data that adds a text to rows of a plan.

The plan's rows say which caption is wanted (`caption_id`, class, `index`) and for the how many-th
time it is asked for (`counter`). Everything else about a text follows from these and from the table
of factors, so a text is the same on whichever worker and in whatever order it is written.
"""

import dataclasses
from typing import Protocol

from jsonargparse.typing import NonNegativeInt, PositiveInt

from actors.synthesis.captions.writers.endpoint import EndpointWriter
from actors.synthesis.captions.writers.grammar import GrammarConfig
from actors.synthesis.captions.writers.vllm import VllmWriter
from actors.synthesis.language_models.stages import Stage
from cluster.content import unhashed
from cluster.pool import Pool
from cluster.rows import seeded
from cluster.unions import choice, chosen


class WriterEngine(Protocol):
    """The settings of a writer: a frozen dataclass that is a choice of `WriterConfig`.

    What of it changes captions is declared at its fields (`cluster.content`).
    """

    @property
    def name(self) -> str:
        """Of the captions that it writes."""

    @property
    def recipe(self) -> str:
        """Names how captions are made, whichever the seed is."""

    def stage(self, factors: str, pool: Pool) -> Stage:
        """Adds to rows of the plan what their class is, `mode`, the factors, `text` (the caption)
        and `error` ("", or why it is none).

        factors: URI of the artifact of kind "factors" that has the rows' classes.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class WriterConfig:
    """Who writes the captions, how many, and how often one is asked for.

    Raises ConfigError if two are to write.
    """

    per_class: PositiveInt = 300
    """Captions per class. Source: ImagineFSL."""
    attempts: PositiveInt = 4
    """How often a caption is asked for; what is refused the last time stays as a refused row. Each
    time is a pass of its own, in which engines start anew."""
    seed: NonNegativeInt = unhashed(0)  # in the recipe, which is hashed
    """Another one makes other captions of the same classes."""
    pool: Pool = unhashed(default_factory=Pool)
    """Writers by the grammar, clients of the endpoint, or engines of vLLM, each of which wants a
    GPU."""
    grammar: GrammarConfig | None = choice(GrammarConfig)
    """The embedded grammar; it writes if no other writer is given."""
    vllm: VllmWriter | None = choice()
    """Engines of vLLM."""
    endpoint: EndpointWriter | None = choice()
    """An OpenAI-compatible server."""

    def __post_init__(self) -> None:
        chosen(self)

    @property
    def engine(self) -> WriterEngine:
        """The one that writes."""
        return chosen(self)

    @property
    def recipe(self) -> str:
        """Names how these captions are made; part of every caption's id."""
        return seeded(self.engine.recipe, self.seed)
