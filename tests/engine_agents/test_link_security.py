"""Links are for those who are known: agents and gateways of one fleet, and nobody else."""

from __future__ import annotations

import asyncio

import pytest
import zmq
import zmq.asyncio

from engine_agents.link_security import LinkKeys, agent_keys, check_listening, gateway_keys
from engine_agents.messages import Hello, encode
from engine_agents.serve import AgentServer
from tests.engine_agents.harness import eventually, gateway_to, running_agent, undisturbed
from tests.engine_agents.migration.fleet import PROMPT, SEEDED, begin, fleet

SECRET = "a secret of the whole fleet"


@pytest.mark.parametrize("way", ["auto", "zmq"])
async def test_requests_are_served_and_move_over_secured_links(way):
    async with fleet(link_secret=SECRET, transfer=way) as world:
        await begin(world, max_tokens=300, **SEEDED)
        await world.move("r")
        outcome = await world.settled()
        await world.gateway.until_finished("r")
        assert outcome.state == "done", outcome
        assert world.gateway.text("r") == undisturbed("r", 300, PROMPT, **SEEDED)
        await world.all_back()


@pytest.mark.parametrize(
    "keys", [None, gateway_keys("a secret of another fleet"), agent_keys("a secret of another fleet")]
)
@pytest.mark.parametrize("door", ["data_endpoint", "peer_endpoint"])
async def test_who_is_not_known_is_refused_and_counted(keys, door):
    async with running_agent(link_secret=SECRET) as agent:
        await knock(getattr(agent, door), keys)
        await eventually(lambda: agent.counters.get("refused_links", 0) > 0, "the refusal to be counted")
        assert not list(agent.gateways.gateways())


async def knock(endpoint: str, keys: LinkKeys | None) -> None:
    """Try to speak; half a second without an answer is a refusal."""
    with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        if keys is not None:
            keys.speak(socket)
        socket.connect(endpoint)
        await socket.send(encode(Hello(gateway_id="stranger", incarnation="1")))
        assert not await socket.poll(500)


async def test_an_agent_of_another_fleet_gets_nothing():
    async with fleet(
        source={"link_secret": SECRET}, destination={"link_secret": "another" + SECRET}
    ) as world:
        await begin(world)
        await world.move("r")
        outcome = await world.settled()
        assert outcome.state == "aborted"
        assert outcome.reason in ("link lost", "the destination cannot be reached")
        await world.gateway.abort("a", "r#1")


def test_plain_links_stay_on_the_machine():
    check_listening("127.0.0.1", None)
    check_listening("localhost", None)
    check_listening("10.0.0.5", agent_keys(SECRET))
    for host in ("0.0.0.0", "10.0.0.5", "gpu-7"):
        with pytest.raises(ValueError, match=r"host: .* give the fleet a link_secret"):
            check_listening(host, None)


def test_keys_come_from_the_secret_and_roles_differ():
    agent, gateway = agent_keys(SECRET), gateway_keys(SECRET)
    assert agent is not None
    assert gateway is not None
    assert agent == agent_keys(SECRET)
    assert agent.public_key != gateway.public_key
    assert agent.agents_key == gateway.agents_key == agent.public_key
    assert agent.known == {agent.public_key, gateway.public_key}
    assert agent_keys("") is None
    assert agent.secret_key.decode() not in repr(agent)
    with pytest.raises(ValueError, match="link_secret: 5 characters are too few"):
        agent_keys("short")


async def test_a_killed_gateway_is_noticed_at_once_although_it_was_not_silent_for_long():
    async with running_agent(gateway_timeout_s=3600.0) as agent, gateway_to(agent) as gateway:
        await gateway.add("a", "one", PROMPT, max_tokens=1)
        await gateway.until_finished("one")
        assert connected(agent) == 1
        gateway.break_links()
        async with asyncio.timeout(30):
            await eventually(lambda: connected(agent) == 0, "the gateway to be missed")


def connected(agent: AgentServer) -> int:
    return len(list(agent.gateways.gateways()))
