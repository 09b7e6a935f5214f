"""Tokens and their file; which Host and Origin headers are let in."""

import json
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemrack.rt.control import auth
from stemrack.rt.control.auth import Gate, Tokens, is_loopback, load_tokens, new_tokens
from stemrack.rt.control.table import ROLES
from stemrack.rt.errors import ConfigError

TOKENS = Tokens({"viewer": "v" * 20, "operator": "o" * 20, "admin": "a" * 20})


# -- tokens --------------------------------------------------------------------------------------------------


def test_a_token_gives_its_role():
    assert [TOKENS.role_of(letter * 20) for letter in "voa"] == ["viewer", "operator", "admin"]


@given(st.text(max_size=40))
def test_any_other_token_gives_none(token):
    assert TOKENS.role_of(token) is None or token in TOKENS.by_role.values()


@pytest.mark.parametrize("token", ["", "v" * 19, "v" * 21, "V" * 20, "\ud800", "é" * 20])
def test_what_is_nearly_a_token_gives_none(token):
    assert TOKENS.role_of(token) is None


def test_every_token_is_compared_in_constant_time(monkeypatch):
    compared = []

    def compare(known, given_token):
        compared.append((known, given_token))
        return known == given_token

    monkeypatch.setattr(auth.hmac, "compare_digest", compare)
    for token in ("v" * 20, "a" * 20, "nobody"):
        compared.clear()
        TOKENS.role_of(token)
        assert [known for known, _ in compared] == [b"v" * 20, b"o" * 20, b"a" * 20]


def test_without_tokens_everybody_has_the_same_role():
    assert Tokens({}, "operator").role_of("whatever") == "operator"
    assert Tokens({}).role_of("") is None


def test_new_tokens_are_random_and_long():
    first, second = new_tokens(), new_tokens()
    found = {*first.by_role.values(), *second.by_role.values()}
    assert len(found) == 2 * len(ROLES)
    assert set(first.by_role) == set(ROLES)
    assert {len(token) for token in found} == {32}  # 24 bytes in base 64


# -- the file ------------------------------------------------------------------------------------------------


def test_the_file_is_made_for_its_owner_only(tmp_path):
    path = tmp_path / "deep" / "tokens.json"
    before = os.umask(0)
    try:
        made = load_tokens(path)
    finally:
        os.umask(before)
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_tokens(path) == made
    assert json.loads(path.read_text()) == made.by_role


def keep(path, content):
    path.write_text(content, encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o611])
def test_a_file_that_others_may_read_is_refused(tmp_path, mode):
    path = keep(tmp_path / "t", json.dumps(TOKENS.by_role))
    path.chmod(mode)
    with pytest.raises(ConfigError, match="others can read the tokens in it: chmod 600 it"):
        load_tokens(path)


@pytest.mark.parametrize("content", ["", "{", "\x00", "[" * 100_000], ids=["empty", "cut", "zero", "deep"])
def test_a_file_that_is_no_json(tmp_path, content):
    with pytest.raises(ConfigError, match="holds no tokens"):
        load_tokens(keep(tmp_path / "t", content))


def test_a_file_that_is_no_text(tmp_path):
    path = keep(tmp_path / "t", "")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="holds no tokens"):
        load_tokens(path)


@pytest.mark.parametrize(
    "content",
    [[], {}, "x", {"viewer": "v" * 20}, TOKENS.by_role | {"admin": "short"}, TOKENS.by_role | {"admin": 3}],
)
def test_a_file_without_a_token_for_each_role(tmp_path, content):
    with pytest.raises(ConfigError, match="must hold tokens of 16 characters or more for viewer, operator"):
        load_tokens(keep(tmp_path / "t", json.dumps(content)))


def test_more_than_tokens_in_the_file_is_left_alone(tmp_path):
    path = keep(tmp_path / "t", json.dumps(TOKENS.by_role | {"note": "mine"}))
    assert load_tokens(path) == TOKENS


def test_a_folder_instead_of_a_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_tokens(tmp_path)


def test_a_file_instead_of_the_folder(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_tokens(keep(tmp_path / "t", "") / "tokens.json")


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch):
    def no_room(path, flags, mode=0o777):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(auth.os, "open", no_room)
    with pytest.raises(ConfigError, match=r"cannot be made \(No space left on device\): name another"):
        load_tokens(tmp_path / "t")


def test_a_link_that_leads_nowhere(tmp_path):
    (tmp_path / "t").symlink_to(tmp_path / "away" / "t")
    with pytest.raises(ConfigError, match="is a link that leads nowhere"):
        load_tokens(tmp_path / "t")


def test_another_node_makes_the_file_first(tmp_path, monkeypatch):
    path = tmp_path / "t"

    def beaten():
        keep(path, json.dumps(TOKENS.by_role))
        return Tokens({})

    monkeypatch.setattr(auth, "new_tokens", beaten)
    assert load_tokens(path) == TOKENS


# -- hosts and origins ---------------------------------------------------------------------------------------

HERE = Gate.around("127.0.0.1", names=("Desk.Local",), origins=("https://Panel.example/",))
EVERYWHERE = Gate.around("0.0.0.0", names=("desk.local",))


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8137", "127.0.0.1:8137", "127.9.9.9", "[::1]:80", "desk.local"]
)
def test_our_hosts(host):
    assert HERE.lets_host_in(host)
    assert EVERYWHERE.lets_host_in(host)


@pytest.mark.parametrize(
    "host",
    [None, "", ":8137", "evil.example", "evil.example:8137", "localhost.evil.example",
     "127.0.0.1.evil.example", "evil.example/localhost", "localhost@evil.example", "[::1", "[evil]",
     "2130706433x", "desk.local.example"],
)  # fmt: skip
def test_names_that_are_not_ours(host):
    """As a page sends them that had its own name point here (DNS rebinding)."""
    assert not HERE.lets_host_in(host)
    assert not EVERYWHERE.lets_host_in(host)


@pytest.mark.parametrize("host", ["192.168.1.5", "192.168.1.5:8137", "[fe80::1]:8137", "8.8.8.8"])
def test_addresses_are_hosts_where_the_server_listens_on_them(host):
    assert EVERYWHERE.lets_host_in(host)
    assert not HERE.lets_host_in(host)


def test_the_address_that_is_listened_at_is_a_host():
    gate = Gate.around("192.168.1.5")
    assert gate.lets_host_in("192.168.1.5:8137")
    assert gate.takes_addresses


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "localhost:8137"),
        ("http://localhost:8137", "localhost:8137"),
        ("https://localhost:8137", "LOCALHOST:8137"),
        ("http://[::1]:8137", "[::1]:8137"),
        ("https://panel.example", "localhost:8137"),
        ("https://PANEL.example", None),
    ],
)
def test_our_origins(origin, host):
    assert HERE.lets_origin_in(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("null", "localhost:8137"),
        ("", "localhost:8137"),
        ("", None),
        ("http://", ""),
        ("http://evil.example", "localhost:8137"),
        ("http://localhost:8138", "localhost:8137"),
        ("http://localhost", "localhost:8137"),
        ("http://panel.example", "localhost:8137"),
        ("https://panel.example.evil", "localhost:8137"),
        ("file://localhost:8137", "localhost:8137"),
        ("chrome-extension://localhost:8137", "localhost:8137"),
        ("http://[", "localhost:8137"),
        ("http://[::1", "[::1"),
    ],
)
def test_origins_of_others(origin, host):
    assert not HERE.lets_origin_in(origin, host)


@given(st.one_of(st.none(), st.text(max_size=60)), st.one_of(st.none(), st.text(max_size=60)))
def test_any_header_is_answered(origin, host):
    assert HERE.lets_host_in(host) in (True, False)
    assert HERE.lets_origin_in(origin, host) in (True, False)


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("", False),
        ("desk", False),
    ],
)
def test_is_loopback(bind, expected):
    assert is_loopback(bind) is expected
