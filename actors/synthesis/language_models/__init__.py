"""Language models: vLLM's engines on Ray Data, or an OpenAI-compatible server."""
