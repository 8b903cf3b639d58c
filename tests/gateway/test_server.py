"""How a gateway process is served to clients."""

from __future__ import annotations

from controlplane.gateway.server import server_config


async def app(scope, receive, send):
    """Never called."""


def test_open_streams_get_their_grace_and_clients_say_nothing_about_where_they_come_from():
    config = server_config(app, grace_s=7)
    assert config.timeout_graceful_shutdown == 7
    assert not config.proxy_headers
