"""One public port in front of all pools and gateway processes; loads neither vLLM nor models."""
