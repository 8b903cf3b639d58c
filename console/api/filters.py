"""Kinds of filters that lists share; each checks what it is given and says what would be right."""

from __future__ import annotations

from typing import Any

import django_filters
from django import forms

BIGGEST = 2**53


class Word(django_filters.CharFilter):
    """Exactly this text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 200)
        super().__init__(*args, **kwargs)


class Choice(django_filters.ChoiceFilter):
    """One of a few words."""


class WholeNumber(django_filters.Filter):
    field_class = forms.IntegerField

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("min_value", -BIGGEST)
        kwargs.setdefault("max_value", BIGGEST)
        super().__init__(*args, **kwargs)


class Moment(django_filters.IsoDateTimeFilter):
    """An RFC 3339 time."""


class _FlagField(forms.Field):
    def clean(self, value: Any) -> bool | None:
        words = {"true": True, "false": False}
        if value in (None, ""):
            return None
        if value not in words:
            raise forms.ValidationError("must be true or false")
        return words[value]


class Flag(django_filters.Filter):
    """``true`` or ``false``."""

    field_class = _FlagField
