"""vLLM's own encoding of requests and outputs, as single buffers: both sides of the wire side by side.

``EngineCoreRequest`` and ``EngineCoreOutputs`` are positional msgspec arrays: two
versions of vLLM would misread each other's fields, hence agents and gateways
compare versions first (``Hello``/``Ready``). vLLM's codec sends large arrays
beside the message; here everything is inlined, so that one message is one frame.
Nothing is pickled: vLLM refuses unless ``VLLM_ALLOW_INSECURE_SERIALIZATION`` is
set, which the contract test forbids.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import msgspec
from vllm.v1.engine import EngineCoreOutputs, EngineCoreRequest
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

INLINE_ALL = sys.maxsize


class InvalidEncodingError(ValueError):
    """The bytes are not what they should be; ``str(self)`` says why."""


class _Codecs(threading.local):
    """vLLM's encoders and decoders keep state during a call: one set per thread."""

    def __init__(self) -> None:
        self.encoder = MsgpackEncoder(size_threshold=INLINE_ALL)
        self.request_decoder = MsgpackDecoder(EngineCoreRequest, share_mem=False)
        self.outputs_decoder = MsgpackDecoder(EngineCoreOutputs, share_mem=False)


_codecs = _Codecs()


def encode_request(request: EngineCoreRequest) -> bytes:
    """One ``EngineCoreRequest`` as bytes for ``Add.engine_request``."""
    return _encode(request)


def decode_request(data: bytes | memoryview) -> EngineCoreRequest:
    """Inverse of :func:`encode_request`. Raises :class:`InvalidEncodingError`."""
    return _decode(_codecs.request_decoder, data, "a request")


def encode_outputs(outputs: EngineCoreOutputs) -> bytes:
    """The outputs of one step for one client, as bytes for ``Step.outputs``."""
    return _encode(outputs)


def decode_outputs(data: bytes | memoryview) -> EngineCoreOutputs:
    """Inverse of :func:`encode_outputs`. Raises :class:`InvalidEncodingError`."""
    return _decode(_codecs.outputs_decoder, data, "the outputs of a step")


def _encode(value: Any) -> bytes:
    buffers = _codecs.encoder.encode(value)
    if len(buffers) != 1:
        raise InvalidEncodingError("holds data on a device or out of band, which cannot travel")
    return bytes(buffers[0])


def _decode(decoder: MsgpackDecoder, data: bytes | memoryview, what: str) -> Any:
    try:
        # A copy that can be written to: torch makes tensors over the buffer and knows no read-only ones.
        return decoder.decode(bytearray(data))
    except (msgspec.MsgspecError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise InvalidEncodingError(f"not {what} in vLLM's encoding: {error}") from error
