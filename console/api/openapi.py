"""The OpenAPI document: made from the endpoints, committed, and compared with them in the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).with_name("openapi.json")


def generated() -> str:
    """The document as the code says it now."""
    from drf_spectacular.generators import SchemaGenerator

    from console.api import urls

    make: Any = SchemaGenerator
    generator = make(patterns=_under_prefix(urls.urlpatterns))
    return json.dumps(generator.get_schema(request=None, public=True), indent=1, default=str) + "\n"


def _under_prefix(patterns: Any) -> list[Any]:
    from django.urls import include, path

    return [path("api/v1/", include((list(patterns), "api")))]
