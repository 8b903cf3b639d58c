"""Which gateway processes there are, by model: as they report in Redis, or as the command line says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

import msgspec

from controlplane.gateway.public.upstream import Backend
from engine_agents.messages import GatewayStatus

logger = logging.getLogger(__name__)

STALE_S = 5.0
"""A gateway whose report has not changed for so long gets nothing new (while Redis answers)."""
DOWN_FIRST_S, DOWN_LIMIT_S = 0.25, 5.0

_decoder = msgspec.msgpack.Decoder(GatewayStatus)


class Backends:
    """Pure but for the clock: reports in, the next gateway for a model out."""

    def __init__(self, clock: Callable[[], float], fixed: Iterable[tuple[str, str]] = ()) -> None:
        self._clock = clock
        self._fixed = {url: _backend(url, model) for model, url in fixed}
        self._reported: dict[str, Backend] = {}
        self._changed: dict[str, tuple[float, float]] = {}
        """By URL: the newest report's stamp, and when it came."""
        self._models: set[str] = {backend.model for backend in self._fixed.values()}
        self._turn = 0

    def absorb(self, raw: Mapping[bytes, bytes]) -> None:
        """The whole hash of gateways' reports; what cannot be read is left out."""
        now_s = self._clock()
        seen: set[str] = set()
        for data in raw.values():
            status = _read(data)
            if status is None or not status.url or not status.served_model:
                continue
            seen.add(status.url)
            if self._changed.get(status.url, (0.0, 0.0))[0] != status.reported_at_s:
                self._changed[status.url] = (status.reported_at_s, now_s)
            known = self._reported.get(status.url)
            if known is None or known.model != status.served_model:
                logger.info("gateway %s serves %s", status.url, status.served_model)
                self._reported[status.url] = _backend(status.url, status.served_model)
                self._models.add(status.served_model)
        for url in [url for url in self._reported if not self._is_alive(url, seen, now_s)]:
            logger.info("gateway %s is gone", url)
            self._reported.pop(url).close()
            self._changed.pop(url, None)

    def _is_alive(self, url: str, seen: set[str], now_s: float) -> bool:
        return url in seen and now_s - self._changed[url][1] < STALE_S

    def all(self) -> list[Backend]:
        return [*self._fixed.values(), *self._reported.values()]

    @property
    def models(self) -> list[str]:
        """Every model that was ever served here, by name."""
        return sorted(self._models)

    def choose(self, model: str, tried: Iterable[Backend] = ()) -> Backend | None:
        """The gateway of this model with the fewest of our requests, those that fail last; round robin."""
        now_s, without = self._clock(), set(map(id, tried))
        able = [each for each in self.all() if each.model == model and id(each) not in without]
        if not able:
            return None
        self._turn += 1
        turn = self._turn
        ranked = [
            (each.down_until_s > now_s, each.in_flight, (position + turn) % len(able))
            for position, each in enumerate(able)
        ]
        return able[ranked.index(min(ranked))]

    def failed(self, backend: Backend) -> None:
        """It is asked last for a while, longer each time."""
        backend.failures += 1
        pause_s = min(DOWN_LIMIT_S, DOWN_FIRST_S * 2 ** (backend.failures - 1))
        backend.down_until_s = self._clock() + pause_s

    def worked(self, backend: Backend) -> None:
        backend.failures = 0
        backend.down_until_s = 0.0


def _read(data: bytes) -> GatewayStatus | None:
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError:
        return None


def _backend(url: str, model: str) -> Backend:
    parts = urlsplit(url)
    return Backend(parts.hostname or "127.0.0.1", parts.port or 80, model)
