"""What can be chosen for one run of the whole stack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

TINY_MODEL = "tiny"
POOL = "default"
TINY_KV_MIB = 64
CPU_KV_MIB = 1024
GPU_KV_MIB = 8192


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """One more pool beside the default one."""

    name: str
    model: str
    engines: int = 1


@dataclass(frozen=True, slots=True)
class Options:
    """Arguments of ``manage.py up``, and what the settings say."""

    state_dir: Path
    run_dir: Path
    project_dir: Path
    engines: int = 2
    model: str = TINY_MODEL
    """``tiny`` (made on the spot), a folder, or a hub's name."""
    served_model: str = ""
    """What clients ask for; empty: made from ``model``."""
    max_model_len: int = 0
    kv_memory_mib: int = 0
    """KV cache per engine; 0: what suits the model and the machine."""
    host: str = "127.0.0.1"
    console_port: int = 8800
    gateway_port: int = 8801
    redis_url: str = ""
    """Given: no Redis of our own."""
    ray_address: str = ""
    """Given: no Ray of our own."""
    gpus: int = 0
    ignore_memory: bool = False
    allowed_hosts: str = ""
    pool: str = POOL
    gateways: int = 1
    """Gateway processes per pool."""
    more_pools: tuple[PoolOptions, ...] = ()

    @property
    def pools(self) -> tuple[Options, ...]:
        """The same run, seen from each of its pools; the default one comes first."""
        return (
            replace(self, more_pools=()),
            *(
                replace(
                    self,
                    pool=each.name,
                    model=each.model,
                    engines=each.engines,
                    served_model="",
                    more_pools=(),
                )
                for each in self.more_pools
            ),
        )

    @property
    def all_engines(self) -> int:
        return sum(each.engines for each in self.pools)

    @property
    def needs_router(self) -> bool:
        """One gateway listens on the public port itself; several stand behind a router."""
        return self.gateways > 1 or bool(self.more_pools)

    @property
    def is_tiny(self) -> bool:
        return self.model == TINY_MODEL

    @property
    def model_path(self) -> str:
        if self.is_tiny:
            return str(self.state_dir / "models" / "tiny")
        path = Path(self.model).expanduser()
        return str(path.resolve()) if path.is_dir() else self.model

    @property
    def served_name(self) -> str:
        if self.served_model:
            return self.served_model
        if self.is_tiny:
            return "llumdeck-tiny" if self.pool == POOL else f"llumdeck-tiny-{self.pool}"
        return self.model.rstrip("/").rsplit("/", 1)[-1]

    @property
    def kv_memory_bytes(self) -> int:
        """The tiny model gets little, so that its memory can be seen to fill."""
        suitable_mib = TINY_KV_MIB if self.is_tiny else GPU_KV_MIB if self.gpus else CPU_KV_MIB
        return (self.kv_memory_mib or suitable_mib) * 2**20

    @property
    def shown_host(self) -> str:
        """What a browser on this machine can open."""
        return "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104

    @property
    def console_url(self) -> str:
        return f"http://{self.shown_host}:{self.console_port}"

    @property
    def gateway_url(self) -> str:
        return f"http://{self.shown_host}:{self.gateway_port}"
