"""Configuration of one engine agent: the only reader of the environment on the engine side."""

from __future__ import annotations

from typing import Any

import msgspec


class AgentConfig(msgspec.Struct, kw_only=True, frozen=True):
    """Everything an agent needs to start; serialisable, so that it travels to a Ray worker."""

    instance_id: str
    pool: str
    served_model: str
    model: str
    """Path or hub name; for the simulated engine the name of a coefficient file."""
    redis_url: str
    redis_prefix: str = "llumdeck:"
    engine: str = "vllm"
    """``vllm`` or ``paced`` (the simulated engine on the wall clock)."""
    engine_args: dict[str, Any] = {}
    """Passed to the engine (vLLM's ``EngineArgs`` fields)."""
    kv_memory_bytes: int = 64 * 2**20
    host: str = "127.0.0.1"
    link_secret: str = ""
    """The fleet's; secures all links, see :mod:`engine_agents.link_security`. Empty: plain links,
    on the loopback interface only."""
    data_port: int = 0
    """0 = any free port."""
    peer_port: int = 0
    migration_slots: int = 2
    """Migrations in and out together."""
    max_stages: int = 8
    """Copies beside decoding before the hand-over; 0 copies everything while it stands still."""
    transfer: str = "auto"
    """How KV blocks travel: ``auto`` (memory shared on one host, NIXL where installed, else with the
    messages), or only ``shm``, ``nixl`` or ``zmq`` (with the messages)."""
    copy_share: float = 0.05
    """Part of the time that may be spent copying while a migration has something to copy: there is a
    rest after each chunk, so that decoding keeps the processor and the memory's bandwidth."""
    urgent_copy_share: float = 0.25
    """The same for a drain, and for a request that decodes alone: it has nobody to disturb."""
    copy_bytes_per_s: float = 0.0
    """Most that is copied out, all migrations together; 0: no limit."""
    stage_timeout_s: float = 5.0
    commit_timeout_s: float = 2.0
    """COMMIT unanswered for so long: in doubt, the destination is asked, then the gateway."""
    reservation_ttl_s: float = 10.0
    status_min_interval_s: float = 0.05
    status_max_interval_s: float = 1.0
    gateway_timeout_s: float = 5.0
    """A gateway silent for so long is gone: its requests are aborted."""
    log_dir: str = ""
    otlp_endpoint: str = ""
    """Where spans of migrations go, as ``http://collector:4318``; empty: nowhere."""
    failpoints: str = ""
    """For tests; see :mod:`engine_agents.failpoints`. Empty: off, and cannot be set at run time."""
