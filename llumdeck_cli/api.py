"""The admin API as the command line sees it: one client, errors as sentences."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

Json = dict[str, Any]
TIMEOUT_S = 20.0


class ApiError(Exception):
    """The API said no, or could not be reached; the text says why."""


class Api:
    """Calls to ``URL/api/v1`` with a machine token."""

    def __init__(self, url: str, token: str, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._url = url
        self._client = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/v1/", headers=headers, timeout=TIMEOUT_S, transport=transport
        )

    def get(self, path: str, **query: Any) -> Any:
        given = {name: value for name, value in query.items() if value is not None}
        return self._call("GET", path, params=given).json()

    def rows(self, path: str, *, most: int = 1000, **query: Any) -> Iterator[Json]:
        """All rows of a list, page by page."""
        page = self.get(path, limit=min(200, most), **query)
        seen = 0
        while True:
            for row in page["results"]:
                yield row
                seen += 1
                if seen >= most:
                    return
            if not page["next"]:
                return
            page = self._call("GET", page["next"]).json()

    def post(self, path: str, body: Mapping[str, Any], *, etag: str = "") -> Any:
        """An action; a retry of the same call by httpx's transport would be answered, not done twice."""
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        if etag:
            headers["If-Match"] = etag
        return self._call("POST", path, json=dict(body), headers=headers).json()

    def etag(self, path: str) -> str:
        return str(self._call("GET", path).headers.get("ETag", ""))

    def close(self) -> None:
        self._client.close()

    def _call(self, method: str, path: str, **given: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **given)
        except httpx.HTTPError as error:
            raise ApiError(f"{self._url} cannot be reached: {error or type(error).__name__}") from error
        if answer.status_code >= 400:
            raise ApiError(_explain(answer))
        return answer


def _explain(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
        text = problem.get("detail") or problem.get("title") or ""
        return f"{answer.status_code}: {text} (request {problem.get('request_id', '?')})"
    except ValueError:
        return f"{answer.status_code}: the answer is not the admin API's; is the URL right?"
