import pytest

from stemrack.clients.address import DEFAULT_URL, find_address


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("STEMRACK_URL", "STEMRACK_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "url", "token"),
    [
        (None, "ws://127.0.0.1:8137/", ""),
        ("http://desk:8137/#token=a_b-c", "ws://desk:8137/", "a_b-c"),
        ("https://desk", "wss://desk/", ""),
        ("wss://desk/below/?x=1#token=abc", "wss://desk/below/", "abc"),
        ("ws://[::1]:8137", "ws://[::1]:8137/", ""),
        ("desk:8137", "ws://desk:8137/", ""),
        (" 127.0.0.1:8137/#token=abc\n", "ws://127.0.0.1:8137/", "abc"),
    ],
)
def test_addresses_as_people_give_them(given, url, token):
    found = find_address(given)
    assert (found.websocket_url, found.token, found.is_secure) == (url, token, url.startswith("wss"))


@pytest.mark.parametrize(
    "given", ["http://", "ftp://desk", "desk:port", "http://desk:99999", "http://me:pw@desk", "http://desk:0"]
)
def test_what_is_no_address(given):
    with pytest.raises(ValueError, match=f"is no address of a node: give one as {DEFAULT_URL}"):
        find_address(f"{given}#token=secret")


def test_the_nearest_token_wins(monkeypatch):
    monkeypatch.setenv("STEMRACK_TOKEN", "environment")
    assert find_address("http://desk").token == "environment"
    assert find_address("http://desk#token=address").token == "address"
    assert find_address("http://desk#token=address", "argument").token == "argument"
    monkeypatch.setenv("STEMRACK_URL", "https://stage:1#token=address")
    assert find_address() == find_address("wss://stage:1/", "address")
    assert "address" not in repr(find_address())
