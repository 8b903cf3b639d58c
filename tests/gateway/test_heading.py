"""A request's headers in one pass: what the door reads, what vLLM's app may see, which ids there are."""

from __future__ import annotations

import pytest

from controlplane.gateway.heading import REQUEST_ID, TRACE_PARENT, WITHHELD_HEADERS, Heading

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = b"00-%s-00f067aa0ba902b7-00" % TRACE


def test_of_a_header_that_came_twice_the_first_counts() -> None:
    heading = Heading(
        [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b"), (b"x-api-key", b"c"),
         (b"x-api-key", b"d"), (b"x-request-id", b"one"), (b"x-request-id", b"two")]
    )  # fmt: skip
    assert (heading.authorization, heading.api_key, heading.http_id) == (b"Bearer a", b"c", "one")


def test_secrets_and_what_only_the_operator_may_say_are_withheld() -> None:
    given = [(name, b"x") for name in sorted(WITHHELD_HEADERS)]
    others = [(b"host", b"h"), (b"content-length", b"7"), (b"x-forwarded-for", b"10.0.0.1")]
    heading = Heading([*given, *others])
    assert heading.passed == others
    assert (heading.content_length, list(heading.forwarded)) == (b"7", [b"10.0.0.1"])


def test_every_forwarded_for_is_kept_in_order() -> None:
    heading = Heading([(b"x-forwarded-for", b"1.1.1.1, 2.2.2.2"), (b"x-forwarded-for", b"3.3.3.3")])
    assert list(heading.forwarded) == [b"1.1.1.1, 2.2.2.2", b"3.3.3.3"]


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 101, b"a/../b", b"a#1"])
def test_ids_are_made_where_none_can_be_used(given: bytes) -> None:
    made = [Heading([(b"x-request-id", given)] if given else []) for _ in range(1000)]
    assert len({each.http_id for each in made}) == len({each.trace_parent for each in made}) == 1000
    assert all(REQUEST_ID.fullmatch(each.http_id.encode()) and len(each.http_id) == 32 for each in made)
    assert all(TRACE_PARENT.fullmatch(each.trace_parent) for each in made)
    assert all(each.trace_parent.split(b"-")[1] == each.http_id.encode() for each in made)


def test_the_clients_trace_and_its_flags_go_on_in_a_span_of_ours() -> None:
    answered = Heading([(b"traceparent", PARENT), (b"x-request-id", b"mine")])
    version, trace, span, flags = answered.trace_parent.split(b"-")
    assert (version, trace, flags, answered.http_id) == (b"00", TRACE, b"00", "mine")
    assert span != PARENT.split(b"-")[2]


@pytest.mark.parametrize("given", [b"nonsense", PARENT + b"0", b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01"])
def test_a_trace_that_is_none_is_not_taken(given: bytes) -> None:
    answered = Heading([(b"traceparent", given), (b"x-request-id", TRACE)])
    assert answered.trace_parent.split(b"-")[1] == TRACE, "an id that could be a trace's is one"
