"""The worker's side: what the model runner knows of a request, made, read and removed between steps.

Model Runner V1 creates a request's state itself only for requests that start from
their prompt. One that comes with tokens already made (by a move, or in recovery)
needs its ``CachedRequestState`` first, with output tokens and generator: without
it the engine goes on with wrong tokens, silently. Same process, same thread.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.outputs import SamplerOutput
from vllm.v1.request import Request
from vllm.v1.sample.ops.topk_topp_sampler import empty_exponential_noise_like
from vllm.v1.worker.cpu_model_runner import CPUModelRunner
from vllm.v1.worker.cpu_worker import CPUWorker
from vllm.v1.worker.gpu_input_batch import CachedRequestState
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from engine_agents.vllm_engine.kv_blocks import Blocks, BlockStore

CPU_WORKER = "engine_agents.vllm_engine.worker.SeedSafeCpuWorker"


class SeedSafeCpuRunner(CPUModelRunner):  # type: ignore[misc]
    """Keeps a seeded request's generator still while its prompt is computed in chunks.

    The stock runner samples after every chunk, throws the token away and turns the
    generator back by its offset. A CPU generator has no offset: the engine dies of
    it. Here the state is kept before sampling and put back after.
    """

    def _sample(self, logits: torch.Tensor | None, spec_decode_metadata: Any) -> SamplerOutput:
        kept = {row: generator.get_state() for row, generator in self._unfinished_prefills().items()}
        output = super()._sample(logits, spec_decode_metadata)
        for row, state in kept.items():
            self.input_batch.generators[row].set_state(state)
        return output

    def _bookkeeping_sync(self, *args: Any, **kwargs: Any) -> Any:
        hidden = self._unfinished_prefills()
        for row in hidden:
            del self.input_batch.generators[row]
        try:
            return super()._bookkeeping_sync(*args, **kwargs)
        finally:
            self.input_batch.generators.update(hidden)

    def _unfinished_prefills(self) -> dict[int, torch.Generator]:
        """Generators of the rows whose sampled token will be thrown away in this step."""
        discarded = self.discard_request_mask.np
        return {row: generator for row, generator in self.input_batch.generators.items() if discarded[row]}


class SeedSafeCpuWorker(CPUWorker):  # type: ignore[misc]
    """vLLM's CPU worker with :class:`SeedSafeCpuRunner` as its runner."""

    def init_device(self) -> None:
        super().init_device()
        # The stock worker names its runner's class; the subclass adds methods only, no state.
        self.model_runner.__class__ = SeedSafeCpuRunner


class RequestStates:
    """The model runner's requests and KV blocks, as the scheduler's migration part sees them."""

    def __init__(self, runner: GPUModelRunner) -> None:
        self._runner = runner

    @property
    def device(self) -> torch.device:
        return torch.device(self._runner.device)

    @property
    def vocabulary(self) -> int:
        return int(self._runner.input_batch.vocab_size)

    def block_store(self, num_blocks: int) -> Blocks:
        """Raises ``ValueError`` when the cache is not laid out by blocks."""
        return BlockStore(self._runner.kv_caches, num_blocks)

    def touch_memory(self) -> None:
        """Have the system give the whole KV cache now, not block by block while tokens are made."""
        if self.device.type == "cpu":
            for cache in self._runner.kv_caches:
                cache.zero_()

    def generator_state(self, request_id: str) -> bytes:
        """State of the request's own generator; empty if it has none (yet)."""
        state = self._runner.requests.get(request_id)
        if state is None or state.generator is None:
            return b""
        return bytes(state.generator.get_state().numpy().tobytes())

    def create(
        self, request: Request, block_ids: tuple[list[int], ...], generator: torch.Generator | None
    ) -> None:
        """Give the runner a request that has output tokens already."""
        state = CachedRequestState(
            req_id=request.request_id,
            prompt_token_ids=request.prompt_token_ids,
            mm_features=request.mm_features,
            sampling_params=request.sampling_params,
            generator=generator,
            block_ids=block_ids,
            num_computed_tokens=request.num_computed_tokens,
            output_token_ids=list(request.output_token_ids),
            lora_request=request.lora_request,
        )
        self._runner.requests[request.request_id] = state
        self._runner.late_interaction_runner.register_request(request.request_id, None)
        if self._runner.uses_mrope:
            self._runner._init_mrope_positions(state)

    def forget(self, request_id: str) -> None:
        """Drop a state at once, as the runner does for a finished request one step later."""
        self._runner.requests.pop(request_id, None)
        self._runner.num_prompt_logprobs.pop(request_id, None)
        self._runner.input_batch.remove_request(request_id)

    def abandon_step(self) -> None:
        """Forget the half-done step that raised: the next one starts with an empty batch."""
        self._runner.execute_model_state = None
        for request_id in list(self._runner.input_batch.req_id_to_index):
            self._runner.input_batch.remove_request(request_id)

    def generator_from(self, state: bytes) -> torch.Generator:
        """A generator in the state that :meth:`generator_state` gave elsewhere."""
        generator = torch.Generator(device=self.device)
        generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
        return generator

    def generator_after(self, request: Request) -> torch.Generator | None:
        """The request's generator as it stands after its output tokens: one draw each, made again."""
        params = request.sampling_params
        if params is None or params.seed is None or params.temperature < 1e-5:
            return None
        generator = torch.Generator(device=self.device)
        generator.manual_seed(params.seed)
        for _ in range(request.num_output_tokens):
            self._draw(generator)
        return generator

    def _draw(self, generator: torch.Generator) -> None:
        """Exactly what vLLM's sampler takes from a generator for one token."""
        if self.device.type == "cpu":
            torch.randint(0, 2**31, (1,), generator=generator, dtype=torch.long)
            return
        noise = torch.empty(self.vocabulary, dtype=torch.float32, device=self.device)
        empty_exponential_noise_like(noise, False).exponential_(generator=generator)
