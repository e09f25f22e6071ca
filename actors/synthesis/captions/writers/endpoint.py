"""Captions by a server that speaks OpenAI's chat completions."""

from dataclasses import dataclass, field

from actors.synthesis.captions.writers.prompted import prompted
from actors.synthesis.language_models.endpoint import EndpointConfig, endpoint_stage
from actors.synthesis.language_models.stages import Sampling, Stage
from cluster.pool import Pool


@dataclass(frozen=True, kw_only=True)
class EndpointWriter(EndpointConfig):
    """A server, and how it draws its words; see `WriterEngine`."""

    sampling: Sampling = field(default_factory=Sampling)
    """How the model draws its words."""

    @property
    def name(self) -> str:
        """The model's."""
        return self.model

    @property
    def recipe(self) -> str:
        """Names how captions are made; part of every caption's id."""
        return f"endpoint-1 {self.model}"

    def stage(self, factors: str, pool: Pool) -> Stage:
        return prompted(endpoint_stage(self, self.sampling, pool), factors)
