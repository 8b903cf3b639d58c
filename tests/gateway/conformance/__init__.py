"""Whether our door answers what ``vllm serve`` answers: the same probes to both, compared."""
