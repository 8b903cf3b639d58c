"""What one side encodes the other decodes, and nothing else passes."""

from __future__ import annotations

import numpy as np
import pytest
from vllm.lora.request import LoRARequest
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.outputs import LogprobsLists

from engine_agents.vllm_engine import codec
from engine_agents.vllm_engine.requests import make_request


def test_requests_come_back_equal():
    request = make_request("r#1", [1, 2, 3], temperature=0.7, seed=9, stop_token_ids=[4], logit_bias={5: 1.5})

    assert codec.decode_request(codec.encode_request(request)) == request


def test_the_name_of_a_lora_travels_with_its_request():
    request = make_request("r#1", [1, 2, 3])
    request.lora_request = LoRARequest("style", 3, "/models/style")

    assert codec.decode_request(codec.encode_request(request)).lora_request == request.lora_request


@pytest.mark.parametrize("width", [3, 500])
def test_outputs_come_back_equal_with_small_and_large_arrays(width):
    logprobs = LogprobsLists(
        np.arange(width, dtype=np.int64).reshape(1, width),
        np.linspace(-9, 0, width, dtype=np.float32).reshape(1, width),
        np.array([2], dtype=np.int64),
    )
    output = EngineCoreOutput("r#1", [7], new_logprobs=logprobs, finish_reason=FinishReason.LENGTH)

    (decoded,) = codec.decode_outputs(codec.encode_outputs(EngineCoreOutputs(outputs=[output]))).outputs

    assert (decoded.request_id, decoded.new_token_ids, decoded.finish_reason) == (
        "r#1",
        [7],
        FinishReason.LENGTH,
    )
    for sent, received in zip(logprobs[:3], decoded.new_logprobs[:3], strict=True):
        assert np.array_equal(sent, received)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"not msgpack", b"\x90", b"\x93\x01\x02\x03"])
def test_anything_else_is_an_error_with_a_reason(data):
    with pytest.raises(codec.InvalidEncodingError, match="not a request in vLLM's encoding"):
        codec.decode_request(data)


def test_truncated_messages_are_errors():
    data = codec.encode_request(make_request("r#1", list(range(50))))
    for length in range(len(data)):
        with pytest.raises(codec.InvalidEncodingError):
            codec.decode_request(data[:length])


def test_pickles_are_not_opened():
    """vLLM's extension codes 1 and 2 are pickles; they must be refused."""
    import msgspec

    for code in (1, 2):
        pickle = msgspec.msgpack.Ext(code, b"cos\nsystem\n(S'true'\ntR.")
        data = msgspec.msgpack.encode(["r#1", [1], pickle])
        with pytest.raises(codec.InvalidEncodingError):
            codec.decode_request(data)
