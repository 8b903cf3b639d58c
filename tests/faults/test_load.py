"""The comparison itself: each kind of damage is told from the others."""

from __future__ import annotations

import pytest

from tests.faults.load import SHAPES, Answer, Ask, Choice, Difference, compare, compare_tokens, late_words


def test_a_stop_string_is_found_late_in_a_text() -> None:
    text = "a b c " * 20 + "the end is always near and then it comes"
    piece = late_words(text)
    assert len(piece) > 5 and text.count(piece) == 1 and text.index(piece) >= len(text) * 2 // 3
    with pytest.raises(StopIteration):
        late_words("x" * 100)


TOKENS = [5, 9, 7, 7, 3, 1, 8, 2, 6, 4]


@pytest.mark.parametrize(
    ("got", "found"),
    [
        (TOKENS, Difference()),
        (TOKENS[:7], Difference(lost=3)),
        (TOKENS[:3] + TOKENS[5:], Difference(lost=2)),
        (TOKENS[:5] + TOKENS[3:5] + TOKENS[5:], Difference(duplicated=2)),
        ([*TOKENS[:4], 99, *TOKENS[5:]], Difference(wrong=1)),
        ([], Difference(lost=10)),
    ],
)
def test_tokens_are_lost_repeated_or_wrong(got: list[int], found: Difference) -> None:
    assert compare_tokens(TOKENS, got) == found


def answer(**changes) -> Answer:
    choice = Choice(list(TOKENS), "text", "length", [("a", -1.0), ("b", -2.0)])
    for name, value in changes.items():
        setattr(choice, name, value)
    return Answer(Ask(SHAPES[0]), choices={0: choice}, usage={"completion_tokens": len(choice.tokens)})


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "Text"},
        {"finish_reason": "stop"},
        {"finish_reason": None},
        {"logprobs": [("a", -1.0)]},
        {"logprobs": [("a", -1.0), ("b", -2.1)]},
        {"logprobs": [("a", -1.0), ("c", -2.0)]},
    ],
)
def test_whatever_else_differs_counts_as_wrong(changes) -> None:
    assert compare(answer(), answer(**changes)) == Difference(wrong=1)


def test_rounding_of_log_probabilities_is_no_difference() -> None:
    assert compare(answer(), answer(logprobs=[("a", -1.00001), ("b", -2.0)])) == Difference()


def test_usage_counts() -> None:
    got = answer()
    got.usage = {"completion_tokens": 11}
    assert compare(answer(), got) == Difference(wrong=1)


def test_a_missing_choice_is_lost() -> None:
    got = answer()
    got.choices = {}
    assert compare(answer(), got).lost == len(TOKENS)


def test_events_are_read_as_they_come() -> None:
    got = Answer(Ask(SHAPES[0]))
    for line in (
        ": keep-alive",
        'data: {"id":"c","choices":[{"index":0,"text":"x","token_ids":[1,2],"finish_reason":null}]}',
        'data: {"id":"c","choices":[{"index":0,"text":"y","token_ids":[3],"finish_reason":"length"}]}',
        'data: {"id":"c","choices":[],"usage":{"completion_tokens":3}}',
        "data: [DONE]",
    ):
        got.take(line)
    assert got.choices[0] == Choice([1, 2, 3], "xy", "length")
    assert (got.usage, got.done, got.comments, len(got.times_s)) == ({"completion_tokens": 3}, True, 1, 2)
