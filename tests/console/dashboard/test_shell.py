from __future__ import annotations

import pytest

PAGES = ["/", "/instances", "/instances/main-1", "/migrations/m-1", "/tenants", "/audit", "/anything/else"]


@pytest.fixture
def built(tmp_path, settings):
    (tmp_path / "index.html").write_text(
        '<!doctype html><meta name="csp-nonce" content="__CSP_NONCE__"><title>Llumdeck</title>'
    )
    settings.FRONTEND_DIST = tmp_path


@pytest.mark.parametrize("path", PAGES)
def test_every_path_of_the_page_gives_the_shell_and_a_csrf_cookie(client, built, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert b"Llumdeck" in answer.content
    assert "csrftoken" in answer.cookies
    assert "no-store" in answer["Cache-Control"]


def test_the_page_may_load_nothing_from_elsewhere(client, built):
    policy = client.get("/")["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy


def test_style_elements_need_the_nonce_of_this_very_answer(client, built):
    nonces = set()
    for _ in range(2):
        answer = client.get("/")
        nonce = answer.content.decode().split('content="')[1].split('"')[0]
        assert f"style-src 'self' 'nonce-{nonce}'" in answer["Content-Security-Policy"]
        assert "unsafe" not in answer["Content-Security-Policy"]
        nonces.add(nonce)
    assert len(nonces) == 2


def test_a_page_that_is_not_built_says_what_to_do(client, settings, tmp_path):
    settings.FRONTEND_DIST = tmp_path / "missing"
    answer = client.get("/")
    assert answer.status_code == 503
    assert "make setup" in answer.content.decode()


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/other"])
def test_paths_of_the_api_never_give_the_page(client, built, path):
    assert client.get(path).status_code == 404
