"""Another vLLM fails at start-up with one sentence."""

from __future__ import annotations

import pytest

from engine_agents.vllm_engine import contract


def test_the_installed_vllm_keeps_the_contract():
    contract.check()


@pytest.mark.parametrize("version", ["0.31.2", "0.32.1", "0.33.0", "0.32.0rc1", "dev"])
def test_another_version_is_refused_by_name(version):
    with pytest.raises(contract.ContractError, match=f"vLLM {version} is installed, .* exactly vLLM 0.32.0"):
        contract.check_version(version)


def test_a_name_that_moved_is_named(monkeypatch):
    from vllm.v1.core.sched.scheduler import Scheduler

    monkeypatch.delattr(Scheduler, "_preempt_request")

    with pytest.raises(contract.ContractError, match=r"lacks Scheduler\._preempt_request\(\)"):
        contract.check()


def test_arguments_and_attributes_are_checked_too():
    class Moved:
        def __init__(self):
            self.present = 1

        def method(self, one):
            return one

    need = contract.Need(Moved, ("present", "absent"), (("method", ("one", "two")), ("gone", ())))

    assert list(contract.missing_names([need])) == ["Moved.absent", "Moved.method(two)", "Moved.gone()"]


def test_unpickling_from_wires_is_refused(monkeypatch):
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")

    with pytest.raises(contract.ContractError, match="VLLM_ALLOW_INSECURE_SERIALIZATION"):
        contract.check()
