"""Which class is served to whom: the rules over ranks, as tables and as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.tenancy.rights import Rights, resolve

RANKS = {"interactive": 0, "standard": 1, "batch": 2}
ALL = frozenset(RANKS)
NOTHING = Rights(None, frozenset())
names = st.sampled_from(sorted(RANKS))
sets = st.frozensets(names)
tenants = st.builds(Rights, names, sets, st.none() | names)
keys = st.builds(Rights, st.none() | names, sets, st.none() | names)


@pytest.mark.parametrize(
    ("tenant", "key", "default", "allowed"),
    [
        (Rights("standard", ALL), NOTHING, "standard", ["interactive", "standard", "batch"]),
        (Rights("standard", frozenset()), NOTHING, "standard", ["standard"]),
        (Rights("standard", ALL, "standard"), NOTHING, "standard", ["standard", "batch"]),
        (Rights("interactive", frozenset(), "batch"), NOTHING, "batch", ["batch"]),
        (
            Rights("standard", ALL),
            Rights("batch", frozenset()),
            "batch",
            ["interactive", "standard", "batch"],
        ),
        (Rights("standard", ALL), Rights(None, frozenset({"batch"})), "batch", ["batch"]),
        (Rights("standard", ALL), Rights(None, frozenset(), "batch"), "batch", ["batch"]),
        (Rights("batch", frozenset()), Rights("interactive", frozenset(), None), "batch", ["batch"]),
        (
            Rights("batch", frozenset({"standard"})),
            Rights(None, frozenset({"interactive"})),
            "batch",
            ["batch"],
        ),
    ],
)
def test_a_key_narrows_what_its_tenant_has(tenant, key, default, allowed) -> None:
    served = resolve(tenant, key, [], RANKS)
    assert (served.default, list(served.allowed)) == (default, allowed)


def test_a_boost_goes_above_all_limits_while_it_lasts() -> None:
    held = Rights("batch", frozenset(), "batch")
    served = resolve(held, Rights(None, frozenset(), "batch"), ["standard", "interactive"], RANKS)
    assert (served.default, served.allowed) == ("interactive", ("interactive", "batch"))
    assert resolve(Rights("interactive", ALL), NOTHING, ["batch"], RANKS).default == "interactive"


@given(tenants, keys, st.lists(names, max_size=2))
def test_the_default_is_always_allowed_and_the_list_goes_from_best_to_lowest(tenant, key, boosts) -> None:
    served = resolve(tenant, key, boosts, RANKS)
    assert served.default in served.allowed
    assert list(served.allowed) == sorted(set(served.allowed), key=RANKS.__getitem__)


@given(tenants, keys)
def test_without_a_boost_nothing_is_above_any_maximum_or_beyond_the_tenants_rights(tenant, key) -> None:
    served = resolve(tenant, key, [], RANKS)
    best = RANKS[served.allowed[0]]
    assert best >= max(RANKS[each] for each in (tenant.maximum, key.maximum, "interactive") if each)
    mine = resolve(tenant, NOTHING, [], RANKS).allowed
    assert set(served.allowed) <= set(mine) | {key.maximum}
    # A key's maximum is served only where it lies below all that the tenant has.
    assert set(served.allowed) <= set(mine) or best > max(RANKS[each] for each in mine)
