"""Captions by a server that speaks OpenAI's chat completions."""

from dataclasses import dataclass

from actors.synthesis.captions.writers.prompted import PromptedWriter
from actors.synthesis.language_models.endpoint import EndpointConfig, endpoint_stage
from actors.synthesis.language_models.stages import Stage
from cluster.pool import Pool


@dataclass(frozen=True, kw_only=True)
class EndpointWriter(EndpointConfig, PromptedWriter):
    """A server, and how it draws its words; see `WriterEngine`."""

    @property
    def recipe(self) -> str:
        return f"endpoint-2 {self.model}"

    def answers(self, pool: Pool) -> Stage:
        return endpoint_stage(self, self.sampling, pool)
