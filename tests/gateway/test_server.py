"""What a gateway process does once everything is built."""

from __future__ import annotations

import gc

from controlplane.gateway.server import server_config, settle_garbage


async def app(scope, receive, send):
    """Never called."""


def test_what_was_built_is_left_out_of_collections():
    threshold, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        settle_garbage()
        assert gc.get_freeze_count() > frozen
        assert gc.get_threshold()[0] > threshold[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)


def test_open_streams_get_their_grace_and_clients_say_nothing_about_where_they_come_from():
    config = server_config(app, grace_s=7)
    assert config.timeout_graceful_shutdown == 7
    assert not config.proxy_headers
