"""Which requests live on this agent, for which gateway, under which dispatch number.

The fence: a request's dispatch numbers only grow here; an Add under a number
that is not higher than the highest seen is stale and refused.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from engine_agents.messages import Add, engine_id, split_engine_id

REMEMBERED_DISPATCHES = 100_000


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """What the agent must know of a request besides what the engine knows."""

    engine_id: str
    client: str
    """The gateway's connection, see :func:`engine_agents.gateway_link.client_key`."""
    slo_class: str
    tenant: str
    rank: int
    prompt_tokens: int

    @property
    def request_id(self) -> str:
        return split_engine_id(self.engine_id)[0]

    @classmethod
    def of(cls, client: str, add: Add) -> LiveRequest:
        return cls(
            engine_id=engine_id(add.request_id, add.dispatch),
            client=client,
            slo_class=add.slo_class,
            tenant=add.tenant,
            rank=add.rank,
            prompt_tokens=add.prompt_tokens,
        )


class LiveRequests:
    """The agent's table of live requests; only touched on its event loop."""

    def __init__(self) -> None:
        self._by_engine_id: dict[str, LiveRequest] = {}
        self._highest: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_engine_id)

    def get(self, engine_id: str) -> LiveRequest | None:
        return self._by_engine_id.get(engine_id)

    def find(self, request_id: str) -> LiveRequest | None:
        """The live incarnation of a request, if it has one here."""
        dispatch = self._highest.get(request_id)
        return None if dispatch is None else self.get(engine_id(request_id, dispatch))

    def of_client(self, client: str) -> list[str]:
        return [one.engine_id for one in self._by_engine_id.values() if one.client == client]

    def is_stale(self, request_id: str, dispatch: int) -> bool:
        return dispatch <= self._highest.get(request_id, 0)

    def fence(self, request_id: str, dispatch: int) -> LiveRequest | None:
        """Note ``dispatch`` as the highest; returns an older incarnation that still lives here."""
        older = None if self.is_stale(request_id, dispatch) else self.find(request_id)
        self._highest[request_id] = max(dispatch, self._highest.get(request_id, 0))
        self._highest.move_to_end(request_id)
        while len(self._highest) > REMEMBERED_DISPATCHES:
            self._highest.popitem(last=False)
        return older

    def put(self, live: LiveRequest) -> None:
        self._by_engine_id[live.engine_id] = live

    def set_rank(self, engine_id: str, rank: int, slo_class: str = "") -> None:
        live = self.get(engine_id)
        if live is not None:
            self._by_engine_id[engine_id] = replace(live, rank=rank, slo_class=slo_class or live.slo_class)

    def discard(self, engine_id: str) -> None:
        self._by_engine_id.pop(engine_id, None)
