"""Captions by vLLM's engines."""

from dataclasses import dataclass

from actors.synthesis.captions.writers.prompted import PromptedWriter
from actors.synthesis.language_models.stages import Stage
from actors.synthesis.language_models.vllm import VllmConfig, text_settings, vllm_stage
from cluster.content import canonical
from cluster.pool import Pool


@dataclass(frozen=True, kw_only=True)
class VllmWriter(VllmConfig, PromptedWriter):
    """VLLM's engines, and how they draw their words; see `WriterEngine`."""

    @property
    def recipe(self) -> str:
        settings = text_settings(self.engine)
        return " ".join(["vllm-2", self.model, *([canonical(settings)] if settings else [])])

    def answers(self, pool: Pool) -> Stage:
        return vllm_stage(self, self.sampling, pool)
