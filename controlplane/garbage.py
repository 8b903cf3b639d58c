"""Python's garbage collector in processes that serve for weeks."""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 20_000
"""Objects made and not yet gone before the young ones are looked through; by default 700: what two dozen
requests are made of, most of which are still being served then and are looked through in vain."""


def settle(*, young_objects: int = 0) -> None:
    """Keep what start-up made out of later collections: a full one costs tens of milliseconds.

    To be called once everything is built. ``young_objects`` above zero also makes collections of
    the young rarer.
    """
    gc.collect()
    gc.freeze()
    if young_objects:
        _, *older = gc.get_threshold()
        gc.set_threshold(young_objects, *older)
