"""Captions by vLLM's engines."""

from dataclasses import dataclass, field

from actors.synthesis.captions.writers.prompted import prompted
from actors.synthesis.language_models.stages import Sampling, Stage
from actors.synthesis.language_models.vllm import VllmConfig, vllm_stage
from cluster.pool import Pool


@dataclass(frozen=True, kw_only=True)
class VllmWriter(VllmConfig):
    """VLLM's engines, and how they draw their words; see `WriterEngine`."""

    sampling: Sampling = field(default_factory=Sampling)
    """How the model draws its words."""

    @property
    def name(self) -> str:
        """The model's."""
        return self.model

    @property
    def recipe(self) -> str:
        """Names how captions are made; part of every caption's id."""
        return f"vllm-1 {self.model}"

    def stage(self, factors: str, pool: Pool) -> Stage:
        return prompted(vllm_stage(self, self.sampling, pool), factors)
