"""The vLLM engine: the only package that imports vLLM and torch.

Importing it sets the environment that both read at import (see
``environment.py``); it imports neither itself.
"""

from engine_agents.vllm_engine import environment

environment.prepare()
