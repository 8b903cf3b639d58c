"""The tiny model, made by the engine side in a process of its own: the console loads no tokenizer."""

from __future__ import annotations

import asyncio
import sys

from console.process.failure import StackError
from console.process.options import Options


async def make_model(options: Options) -> None:
    """Nothing for a model that was named; at once when the tiny one is there. Raises ``StackError``."""
    if not options.is_tiny:
        return
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "engine_agents.vllm_engine.tiny_model", options.model_path),
        cwd=options.project_dir,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        words = output.decode(errors="replace").strip().splitlines() or ["no message"]
        raise StackError(f"the tiny model could not be made: {words[-1]}")
