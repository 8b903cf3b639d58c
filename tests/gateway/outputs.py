"""Plain outputs and their editor, for tests that need no engine."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass
class PlainOutput:
    request_id: str
    new_token_ids: list[int]
    finish_reason: str | None = None
    prompt_news: bool = False


class PlainEditor:
    def trim(self, output: PlainOutput, skip: int) -> PlainOutput:
        return replace(output, new_token_ids=output.new_token_ids[skip:])

    def tokens_only(self, request_id: str, token_ids: list[int]) -> PlainOutput:
        return PlainOutput(request_id, token_ids)

    def continued(self, output: PlainOutput) -> PlainOutput:
        return replace(output, prompt_news=False)
