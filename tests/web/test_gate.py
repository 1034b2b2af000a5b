"""What the application refuses before a room sees it: each attack as a browser or a script would send it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from palmette.web.application import Body, CurrentSession, build_application
from palmette.web.gate import MAX_BODY, host_names
from palmette.web.sessions import MAX_SESSIONS, Sessions

PORT = 8765
HOST = f"127.0.0.1:{PORT}"


class Word(Body):
    word: str
    times: int = 1


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(["ann", "bob"])


@pytest.fixture
def client(sessions: Sessions) -> Iterator[TestClient]:
    """A browser at an application with one room, which says who asks."""
    room = APIRouter()
    calls: list[str] = []

    @room.get("/api/who")
    def who(session: CurrentSession) -> dict[str, str]:
        return {"name": session.annotator}

    @room.post("/api/echo")
    def echo(word: Word, session: CurrentSession) -> dict[str, Any]:
        calls.append(word.word)
        return {"word": word.word, "calls": len(calls)}

    @room.get("/api/broken")
    def broken() -> None:
        raise RuntimeError("a bug")

    app = build_application([room], sessions, host_names(["127.0.0.1", "localhost"], PORT), port=PORT)
    with TestClient(app, base_url=f"http://{HOST}", raise_server_exceptions=False) as opened:
        yield opened


def enter(client: TestClient, token: str) -> Any:
    return client.post("/api/session", json={"token": token})


def test_a_token_is_exchanged_for_a_cookie_that_scripts_and_other_sites_cannot_use(
    client: TestClient, sessions: Sessions
) -> None:
    assert client.get("/api/who").status_code == 401
    entered = enter(client, sessions.tokens["bob"])
    assert entered.json() == {"annotator": "bob"}
    cookie = entered.headers["set-cookie"]
    assert cookie.startswith(f"palmette-{PORT}=")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(re.split("; ", cookie))
    assert sessions.tokens["bob"] not in cookie
    assert client.get("/api/who").json() == {"name": "bob"}


@pytest.mark.parametrize("token", ["", "wrong", "ö", "\ud800"])
def test_no_other_token_opens(client: TestClient, sessions: Sessions, token: str) -> None:
    body = f'{{"token": "{token}"}}' if token != "\ud800" else '{"token": "\\ud800"}'
    refused = client.post("/api/session", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code in (403, 422)
    assert "set-cookie" not in refused.headers
    assert client.get("/api/who").status_code == 401


def test_a_made_up_cookie_opens_nothing(client: TestClient, sessions: Sessions) -> None:
    session = sessions.begin(sessions.tokens["ann"])
    assert session is not None
    for made in ("", "x", session[1].id, sessions.tokens["ann"]):
        client.cookies.set(f"palmette-{PORT}", made)
        assert client.get("/api/who").status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1.evil.example:{PORT}", "localhost:80", ""]
)
@pytest.mark.parametrize("path", ["/api/who", "/page.css", "/static/icon.svg", "/nowhere"])
def test_a_name_that_was_pointed_at_this_machine_is_refused_before_all_else(
    client: TestClient, sessions: Sessions, host: str, path: str
) -> None:
    """DNS rebinding: the page's own origin equals the Host that it sends, so only the list of hosts can tell."""
    enter(client, sessions.tokens["ann"])
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert client.get(path, headers=headers).status_code == 421
    assert client.post(path, headers=headers, content="{}").status_code == 421


def test_every_known_name_is_served(client: TestClient) -> None:
    for host in (HOST, f"localhost:{PORT}", f"LOCALHOST:{PORT}"):
        assert client.get("/page.css", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": f"http://evil.example:{PORT}"},
        {"Origin": f"https://{HOST}"},
        {"Origin": f"http://localhost:{PORT}"},  # another origin than the Host that is asked
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},  # another port of this machine is the same site
        {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_page_of_another_site_changes_nothing(
    client: TestClient, sessions: Sessions, headers: dict[str, str]
) -> None:
    enter(client, sessions.tokens["ann"])
    assert client.post("/api/echo", json={"word": "a"}, headers=headers).status_code == 403
    own = {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/echo", json={"word": "b"}, headers=own).json() == {"word": "b", "calls": 1}
    assert client.post("/api/echo", json={"word": "c"}).json() == {"word": "c", "calls": 2}  # a script, no browser


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json"]
)
def test_what_browsers_send_across_sites_without_asking_is_no_json(
    client: TestClient, sessions: Sessions, kind: str | None
) -> None:
    enter(client, sessions.tokens["ann"])
    headers = {"Content-Type": kind} if kind else {}
    assert client.post("/api/echo", content='{"word": "a"}', headers=headers).status_code == 415
    right = {"Content-Type": "application/json; charset=utf-8"}
    assert client.post("/api/echo", content='{"word": "a"}', headers=right).status_code == 200


def test_no_answer_lets_other_origins_in(client: TestClient, sessions: Sessions) -> None:
    asks = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = client.options("/api/echo", headers=asks)
    assert preflight.status_code == 403
    enter(client, sessions.tokens["ann"])
    answers = [preflight, client.get("/api/who", headers={"Origin": "http://evil.example"}), client.get("/page.css")]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_bodies_have_a_limit_whatever_their_header_says(client: TestClient, sessions: Sessions) -> None:
    enter(client, sessions.tokens["ann"])
    json = {"Content-Type": "application/json"}

    def body(length: int) -> bytes:
        return b'{"word": "' + b"a" * (length - 12) + b'"}'

    assert client.post("/api/echo", content=body(MAX_BODY), headers=json).status_code == 200
    assert client.post("/api/echo", content=body(MAX_BODY + 1), headers=json).status_code == 413
    # In chunks, a body has no length in advance.
    chunks = (body(MAX_BODY + 1)[at : at + 1000] for at in range(0, MAX_BODY + 1, 1000))
    assert client.post("/api/echo", content=chunks, headers=json).status_code == 413
    for length in ("-1", "many", "9" * 30):
        assert client.post("/api/echo", content=b"{}", headers={**json, "Content-Length": length}).status_code == 413


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", '"a"', "{}", '{"word": 1}', '{"word": "a", "more": 1}', '{"word": "a", "times": "2"}', "NaN"],
)
def test_a_body_of_another_shape_is_refused_in_words(client: TestClient, sessions: Sessions, body: str) -> None:
    enter(client, sessions.tokens["ann"])
    refused = client.post("/api/echo", content=body, headers={"Content-Type": "application/json"})
    assert refused.status_code == 422
    assert set(refused.json()) == {"problem", "way_out"}


def test_every_answer_carries_the_headers_that_protect(client: TestClient, sessions: Sessions) -> None:
    """Also refusals, errors, and files that are not there."""
    answers = [
        client.get("/page.css"),
        client.get("/static/icon.svg"),
        client.get("/static/nothing.js"),
        client.get("/static/../application.py"),
        client.get("/api/who"),
        client.get("/api/broken"),
        client.get("/", headers={"Host": "evil.example"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 404, 401, 500, 421]
    for answer in answers:
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] in ("no-store", "no-cache")


def test_the_interface_is_not_described_to_strangers(client: TestClient) -> None:
    assert [client.get(path).status_code for path in ("/docs", "/redoc", "/openapi.json")] == [404, 404, 404]


def test_a_web_socket_is_closed(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/api/who"):
        pass


def test_host_names_hold_the_port_and_brackets() -> None:
    """A browser leaves out port 80, and puts brackets around the colons of an IPv6 address (RFC 3986, 3.2.2)."""
    assert host_names(["Desk", "fe80::1"], 8000) == {"desk:8000", "[fe80::1]:8000"}
    assert host_names(["desk"], 80) == {"desk", "desk:80"}


def test_sessions_are_told_apart_and_their_number_is_bounded() -> None:
    sessions = Sessions(["ann", "bob"])
    assert len(set(sessions.tokens.values())) == 2
    begun = [sessions.begin(sessions.tokens["ann"]) for _ in range(MAX_SESSIONS + 1)]
    cookies = [one[0] for one in begun if one is not None]
    assert len(set(cookies)) == MAX_SESSIONS + 1
    assert sessions.find(cookies[0]) is None
    assert sessions.find(cookies[1]) is not None
    assert sessions.find(None) is None
