"""What ``vllm serve`` answers, the gateway answers: also while requests move, and when an engine dies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gateway.conformance.answers import Answer, difference, normalised
from tests.gateway.conformance.probes import PROBES, completion
from tests.gateway.conformance.suite import (
    Reference,
    Verdict,
    compare,
    killing,
    moving,
    reference_answers,
)
from tests.gateway.harness import Fleet

LIVELY = [probe for probe in PROBES if probe.generates]


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> Iterator[Reference]:
    made = Reference(tiny_model)
    yield made
    made.close()


@pytest.fixture(scope="module")
def known(reference: Reference, live_fleet: Fleet) -> dict[str, Answer]:
    """Engines and reference start side by side."""
    reference.wait()
    return reference_answers(reference)


def problems(verdicts: list[Verdict]) -> list[str]:
    return [f"{verdict.probe.name}: {verdict.problem}" for verdict in verdicts if verdict.problem]


@pytest.mark.engine
@pytest.mark.timeout(600)
class TestConformance:
    def test_most_probes_are_answered_and_many_are_errors(self, known: dict[str, Answer]) -> None:
        assert len(known) == len(PROBES) >= 170
        assert sum(answer.status == 200 for answer in known.values()) > 100
        assert sum(answer.status >= 400 for answer in known.values()) > 40
        assert not [name for name, answer in known.items() if answer.status >= 500 or answer.broken]

    def test_every_probe_is_answered_alike(self, engines: Fleet, known: dict[str, Answer]) -> None:
        assert problems(compare(known, engines.url, PROBES)) == []

    def test_moves_are_not_to_be_seen(self, engines: Fleet, known: dict[str, Answer]) -> None:
        moved = engines.gateway.journal.counters["moves"]
        with moving(engines):
            verdicts = compare(known, engines.url, LIVELY)
        assert problems(verdicts) == []
        assert engines.gateway.journal.counters["moves"] - moved >= 20

    def test_nor_is_the_death_of_an_engine(self, engines: Fleet, known: dict[str, Answer]) -> None:
        recovered = engines.gateway.journal.counters["recoveries"]
        with killing(engines, "v1", len(LIVELY) // 3):
            verdicts = compare(known, engines.url, LIVELY)
        assert problems(verdicts) == []
        assert engines.gateway.journal.counters["recoveries"] > recovered
        assert "v1" not in engines.agents


class TestTheComparison:
    """It must be able to fail."""

    probe = completion("any", stream=True)

    @staticmethod
    def stream(*texts: str, ident: str = "cmpl-11111111", created: int = 5) -> bytes:
        chunk = (
            '{"id": "%s", "created": %d, "model": "tiny", "choices": '
            '[{"index": 0, "text": "%s", "logprobs": null, "finish_reason": null}]}'
        )
        events = [chunk % (ident, created + (text == "late"), text) for text in texts] + ["[DONE]"]
        return "".join(f"data: {event}\n\n" for event in events).encode()

    def answer(self, *texts: str) -> Answer:
        return normalised(200, "text/event-stream; charset=utf-8", self.stream(*texts))

    def test_cuts_between_chunks_ids_and_comments_do_not_matter(self) -> None:
        ours = normalised(
            200, "text/event-stream", b": keep-alive\n\n" + self.stream("a", "bc", ident="cmpl-22222222")
        )
        assert difference(self.probe, self.answer("ab", "c"), ours) == ""

    def test_a_token_more_or_in_another_order_does(self) -> None:
        theirs = self.answer("ab", "c")
        for texts in (("ab", "cd"), ("c", "ab"), ("ab",), ("ab", "c", "c")):
            assert difference(self.probe, theirs, self.answer(*texts))

    def test_a_stream_that_changes_its_time_of_creation_does(self) -> None:
        assert "created" in difference(self.probe, self.answer("a", "late"), self.answer("a", "late"))

    def test_status_and_missing_fields_do(self) -> None:
        theirs = normalised(200, "application/json", b'{"usage": {"total_tokens": 3}}')
        assert "status" in difference(self.probe, theirs, replace(theirs, status=500))
        ours = normalised(200, "application/json", b'{"usage": {}}')
        assert "total_tokens" in difference(self.probe, theirs, ours)

    def test_where_the_gateway_answers_itself_the_shape_must_be_openais(self) -> None:
        probe = replace(self.probe, ours="for this test")
        theirs = normalised(400, "application/json", b"{}")
        good = b'{"error": {"message": "m", "type": "t", "param": null, "code": "c"}}'
        assert difference(probe, theirs, normalised(400, "application/json", good)) == ""
        assert difference(probe, theirs, normalised(400, "application/json", b'{"detail": "no"}'))
