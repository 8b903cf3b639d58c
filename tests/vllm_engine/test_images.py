"""Images and sampler states: what comes back, and what is refused."""

from __future__ import annotations

import pytest

from engine_agents.vllm_engine import images


def image(**changes):
    fields = {
        "engine_request": b"bytes",
        "slo_class": "batch",
        "tenant": "t",
        "rank": 2,
        "prompt_tokens": 7,
        "vllm_version": "0.32.0",
    }
    return images.RequestImage(**{**fields, **changes})


def test_they_come_back_equal():
    state = images.SamplerState(generator=b"\x01" * 5056, device="cpu", reasoning_ended=True)

    assert images.decode_image(images.encode(image()), "0.32.0") == image()
    assert images.decode_sampler_state(images.encode(state)) == state


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a request image"),
        (b"\x80", "not a request image"),
        (images.encode(images.SamplerState()), "not a request image"),
        (images.encode(image(format=2)), "format 2, but this agent reads format 1"),
        (images.encode(image(vllm_version="0.33.0")), "vLLM 0.33.0, but this is vLLM 0.32.0"),
    ],
)
def test_other_images_are_refused(data, reason):
    with pytest.raises(images.InvalidImageError, match=reason):
        images.decode_image(data, "0.32.0")


@pytest.mark.parametrize("data", [b"", b"\x93\x01\x02\x03", images.encode(images.SamplerState(format=9))])
def test_other_states_are_refused(data):
    with pytest.raises(images.InvalidImageError):
        images.decode_sampler_state(data)
