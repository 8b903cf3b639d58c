"""What travels of a request beside its KV blocks: MessagePack, nothing pickled.

An *image* is the request as first sent and everything needed to create it
again elsewhere; it goes ahead, with the reservation. The *sampler state* is
what has changed since; it goes with the last stage. Output tokens travel in the
``Frozen`` itself, and penalties, ``min_tokens`` and grammar state follow from them.
"""

from __future__ import annotations

import msgspec

FORMAT = 1


class RequestImage(msgspec.Struct, kw_only=True):
    """A request as first sent, and for whom."""

    engine_request: bytes
    """vLLM's ``EngineCoreRequest``; with it the sampling parameters, arrival time and LoRA name."""
    slo_class: str
    tenant: str
    rank: int
    prompt_tokens: int
    vllm_version: str
    format: int = FORMAT


class SamplerState(msgspec.Struct, kw_only=True):
    """What decides the next token, beside the tokens so far."""

    generator: bytes = b""
    """State of the request's ``torch.Generator``; empty when it has no seed of its own."""
    device: str = "cpu"
    """Kind of device the generator lives on; a state of another kind cannot be used."""
    reasoning_ended: bool | None = None
    """Grammar of requests with a reasoning part: whether that part is over."""
    format: int = FORMAT


class InvalidImageError(ValueError):
    """The bytes are no image (or sampler state) of this version; ``str(self)`` says why."""


_encoder = msgspec.msgpack.Encoder()
_image_decoder = msgspec.msgpack.Decoder(RequestImage)
_state_decoder = msgspec.msgpack.Decoder(SamplerState)


def encode(value: RequestImage | SamplerState) -> bytes:
    return _encoder.encode(value)


def decode_image(data: bytes, vllm_version: str) -> RequestImage:
    """Raises :class:`InvalidImageError` for anything but an image made by the same vLLM version."""
    try:
        image = _image_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise InvalidImageError(f"not a request image: {error}") from error
    if image.format != FORMAT:
        raise InvalidImageError(
            f"request image of format {image.format}, but this agent reads format {FORMAT}"
        )
    if image.vllm_version != vllm_version:
        raise InvalidImageError(
            f"request image of vLLM {image.vllm_version}, but this is vLLM {vllm_version}"
        )
    return image


def decode_sampler_state(data: bytes) -> SamplerState:
    """Raises :class:`InvalidImageError`."""
    try:
        state = _state_decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise InvalidImageError(f"not a sampler state: {error}") from error
    if state.format != FORMAT:
        raise InvalidImageError(
            f"sampler state of format {state.format}, but this agent reads format {FORMAT}"
        )
    return state
