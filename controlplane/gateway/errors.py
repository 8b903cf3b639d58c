"""Errors in OpenAI's shape, with what a client needs to do next."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

RETRY_AFTER_S = 1

TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    431: "invalid_request_error",
    429: "rate_limit_error",
}
"""By status; all else is a ``server_error``."""


@dataclass(frozen=True, slots=True)
class ApiError:
    """What a client is told. ``code`` is stable, ``message`` is for people."""

    status: int
    code: str
    message: str
    param: str | None = None

    @property
    def body(self) -> bytes:
        error = {
            "message": self.message,
            "type": TYPES.get(self.status, "server_error"),
            "param": self.param,
            "code": self.code,
        }
        return msgspec.json.encode({"error": error})

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return retry_headers(self.status)


def retry_headers(status: int) -> list[tuple[bytes, bytes]]:
    """``Retry-After`` where trying again makes sense."""
    return [(b"retry-after", str(RETRY_AFTER_S).encode())] if status in (429, 503) else []


NO_KEY = ApiError(
    401, "missing_api_key", "No API key was given. Send it in the header 'Authorization: Bearer KEY'."
)
BAD_KEY = ApiError(401, "invalid_api_key", "The API key is unknown, expired or revoked.")
KEYS_UNREADABLE = ApiError(503, "keys_unavailable", "API keys cannot be checked at the moment. Try again.")
NOT_FOUND = ApiError(404, "unknown_url", "There is nothing at this address. Look at /v1/models.")
BODY_TOO_SLOW = ApiError(408, "request_timeout", "The request's body did not arrive in time.")
STARTING = ApiError(503, "starting", "This gateway is starting. Try again.")
INTERNAL = ApiError(500, "internal_error", "The request failed in the gateway; the log has its id.")


NO_GATEWAY = ApiError(503, "no_gateway", "No gateway of this model can be reached. Try again.")


def unknown_model(model: str, known: list[str]) -> ApiError:
    served = ", ".join(known)
    message = f"The model `{model[:200]}` does not exist. Valid aliases: {served}."
    return ApiError(404, "model_not_found", message, "model")


def no_model(known: list[str]) -> ApiError:
    return ApiError(400, "model_missing", f"model: say which one; there are {', '.join(known)}.", "model")


def method_not_allowed(allowed: str) -> ApiError:
    return ApiError(405, "method_not_allowed", f"Only {allowed} is allowed at this address.")


def bad_http(problem: str) -> ApiError:
    return ApiError(400, "invalid_http", f"This is no HTTP request: {problem}")


def head_too_large(limit_bytes: int) -> ApiError:
    return ApiError(431, "headers_too_large", f"Address and headers are larger than {limit_bytes} bytes.")


def too_many_connections(limit: int) -> ApiError:
    return ApiError(503, "too_many_connections", f"This gateway has {limit} open connections. Try again.")


def body_too_large(limit_bytes: int) -> ApiError:
    return ApiError(413, "request_too_large", f"The body is larger than {limit_bytes} bytes.")


def bad_json(problem: str) -> ApiError:
    return ApiError(400, "invalid_json", f"The body is not valid JSON: {problem}.")


def unusable_body(problem: str) -> ApiError:
    message = f"A field of the body has a form that cannot be used ({problem[:300]})."
    return ApiError(400, "unusable_body", message)


def out_of_range(param: str, problem: str) -> ApiError:
    return ApiError(400, "out_of_range", f"{param}: {problem}.", param)
