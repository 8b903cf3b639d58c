"""The common counters in Redis: one script, atomic, on Redis's own clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec

from controlplane import redis_client
from controlplane.gateway.limits.store import HOLDER_TTL_S, Grant, Order, StoreError

TIMEOUT_S = 0.3

SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local prefix, holder, ttl = KEYS[1], ARGV[1], tonumber(ARGV[2])
local answers = {}

local function grant(need, want, left)
  if need > 0 and left >= need then return math.floor(math.min(want, left)) end
  return 0
end

local function rate(name, limit, need, want, back)
  local key = prefix .. 'rate:' .. name
  local row = redis.call('HMGET', key, 'level', 'at')
  local level, at = tonumber(row[1]) or limit, tonumber(row[2]) or now
  level = math.min(limit, level + math.max(0, now - at) * limit / 60000 + back)
  local granted = grant(need, want, level)
  level = level - granted
  redis.call('HSET', key, 'level', tostring(level), 'at', tostring(now))
  redis.call('PEXPIRE', key, math.ceil((limit - level) * 60000 / limit) + 60000)
  local wait = 0
  if granted == 0 and need > 0 then wait = math.max(0, need - level) * 60 / limit end
  return {tostring(granted), tostring(level), tostring(wait)}
end

local function slots(name, limit, need, want, held)
  local key = prefix .. 'slots:' .. name
  local rows, others = redis.call('HGETALL', key), 0
  for i = 1, #rows, 2 do
    local count, till = string.match(rows[i + 1], '^(%S+) (%S+)$')
    if tonumber(till) <= now then
      redis.call('HDEL', key, rows[i])
    elseif rows[i] ~= holder then
      others = others + tonumber(count)
    end
  end
  local left = limit - others - held
  local granted = grant(need, want, left)
  if held + granted > 0 then
    redis.call('HSET', key, holder, (held + granted) .. ' ' .. (now + ttl))
    redis.call('PEXPIRE', key, ttl * 2)
  else
    redis.call('HDEL', key, holder)
  end
  local wait = 0
  if granted == 0 and need > 0 then wait = 1 end
  return {tostring(granted), tostring(left - granted), tostring(wait)}
end

redis.call('ZADD', prefix .. 'gateways', now + ttl, holder)
redis.call('ZREMRANGEBYSCORE', prefix .. 'gateways', '-inf', now)
for _, order in ipairs(cmsgpack.unpack(ARGV[3])) do
  local kind, name, limit, need, want, back = unpack(order)
  local carry_out = kind == 'rate' and rate or slots
  answers[#answers + 1] = carry_out(name, limit, need, want, back)
end
return {redis.call('ZCARD', prefix .. 'gateways'), answers}
"""


class RedisStore:
    """One gateway's way to the counters. ``holder`` is its incarnation."""

    def __init__(self, holder: str) -> None:
        self._holder = holder
        self._client: Any = None
        self._script: Any = None
        self.gateways = 1
        """That spoke within the last seconds, this one included."""

    async def exchange(self, orders: Sequence[Order]) -> list[Grant]:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._exchange(orders)
        except (redis_client.RedisError, OSError, TimeoutError) as error:
            await self.close()
            raise StoreError(type(error).__name__) from error

    async def _exchange(self, orders: Sequence[Order]) -> list[Grant]:
        if self._client is None:
            self._client = redis_client.connect_async(timeout_s=TIMEOUT_S)
            self._script = self._client.register_script(SCRIPT)
        arguments = [self._holder, int(HOLDER_TTL_S * 1000), msgspec.msgpack.encode(orders)]
        self.gateways, answers = await self._script([redis_client.key("limits:")], arguments)
        return [Grant(*(float(each) for each in answer)) for answer in answers]

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            # What is wrong with it is why it is closed.
            with contextlib.suppress(redis_client.RedisError, OSError):
                await client.aclose()
