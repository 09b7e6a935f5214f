"""Sessions that get no connection, or lose it for good: nodes that refuse, lie, are silent or not there."""

import asyncio
import shutil
import socket
import subprocess
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from control_node import TOKENS, FakeNode, start_server
from websockets.asyncio.server import serve

from stemrack.clients import session as session_module
from stemrack.clients.errors import ConnectionLost, NoConnection, Refused
from stemrack.clients.session import Session, Snapshot, Subscriptions
from stemrack.rt.control.auth import Gate, Tokens
from stemrack.rt.control.codec import JSON, Codec
from stemrack.rt.control.messages import Delta, Deltas, Hello, Welcome

LIMIT_S = 30.0
GAIN = "stem/vocals/gain_db"


@pytest.fixture
def running():
    with start_server() as server:
        yield server


def refused(error, url, **options):
    """Return the error that opening a session gives."""

    async def talk():
        async with asyncio.timeout(LIMIT_S), Session(url, **options):
            pass

    with pytest.raises(error) as told:
        asyncio.run(talk())
    return told.value


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@asynccontextmanager
async def scripted(*scripts):
    """Give the address of a server that sends the messages of a script a connection, the last one again."""
    codec, seen = Codec(JSON), []

    async def talk(connection):
        script = scripts[min(len(seen), len(scripts) - 1)]
        seen.append(None)
        first, *rest = [m if isinstance(m, str) else codec.encode(m) for m in script]
        await connection.send(first)
        seen[-1] = codec.decode_client(await connection.recv())
        for frame in rest:
            await connection.send(frame)
        await connection.wait_closed()

    async with serve(talk, "127.0.0.1", 0, subprotocols=[JSON], compression=None) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


HELLO = Hello(server="scripted", versions=(1, 1), epoch="e1", token=False)
WELCOME = Welcome(version=1, client_id="c1", role="admin", revision=5, resumed=False)
STATE = Snapshot(epoch="e1", revision=5, values={GAIN: 0.0})


# -- refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"is_patient": True}])
def test_a_wrong_token_is_tried_once(running, options):
    async def talk():
        async with asyncio.timeout(LIMIT_S), Session(running.url, token="wrong", **options) as session:
            await session.ready()

    with pytest.raises(Refused, match="the token is wrong") as told:
        asyncio.run(talk())
    assert told.value.code == 201
    assert running.counted["connections"] == running.counted["refused_token"] == 1


def test_where_a_token_is_wanted_none_is_not_even_sent(running, monkeypatch):
    monkeypatch.delenv("STEMRACK_TOKEN", raising=False)
    assert "give the address with #token=" in str(refused(Refused, running.url))
    assert "refused_token" not in running.counted


def test_the_token_is_in_no_message(running):
    error = refused(Refused, f"{running.http_url}/#token=secret")
    assert "secret" not in f"{error}{error!r}{Session('http://h/#token=secret').address}"


def test_a_wish_that_the_node_does_not_understand_is_not_repeated(running):
    error = refused(Refused, running.url, token=TOKENS["viewer"], subscribe=Subscriptions(meters_hz=100.0))
    assert error.code == 102
    assert running.counted["connections"] == 1


def test_a_session_ends_where_the_node_comes_back_with_other_tokens(running):
    async def talk():
        async with asyncio.timeout(LIMIT_S), Session(running.url, token=TOKENS["viewer"]) as session:
            changes = session.changes()
            others = Tokens({role: "z" * 32 + role for role in TOKENS})
            await asyncio.to_thread(running.restart, FakeNode(tokens=others))
            with pytest.raises(Refused, match="the token is wrong"):
                await anext(changes)
            with pytest.raises(Refused):
                await session.ready()
            assert session.state == "closed"
            with pytest.raises(ConnectionLost, match="the token is wrong"):
                await session.get()

    asyncio.run(talk())


def test_a_host_name_that_is_not_the_nodes_is_told():
    with start_server(gate=Gate(frozenset({"desk.local"}), False)) as running:
        error = refused(Refused, f"ws://localhost:{running.port}", token=TOKENS["viewer"])
    assert error.code == HTTPStatus.MISDIRECTED_REQUEST
    assert "this host name is not the node's" in str(error)


# -- not there, or no node ---------------------------------------------------------------------------------


def test_no_node_is_told_with_what_to_do():
    error = refused(NoConnection, f"http://127.0.0.1:{free_port()}")
    assert "Connection refused" in str(error)
    assert "start `stemrack run`" in str(error)


def test_a_patient_session_waits_for_the_node():
    async def talk():
        async with (
            asyncio.timeout(LIMIT_S),
            Session(running.url, token=TOKENS["viewer"], is_patient=True) as session,
        ):
            while not session.trouble:
                await asyncio.sleep(0.01)
            assert session.values == {}
            await asyncio.to_thread(running.start)
            await session.ready()
            assert session.values[GAIN] == 0.0

    with start_server() as running:
        running.stop()
        asyncio.run(talk())


def test_the_nth_try_waits_n_seconds_and_never_more_than_five(monkeypatch):
    waits_s, sleep = [], asyncio.sleep

    async def no_sleep(delay_s):
        waits_s.append(delay_s)
        await sleep(0)

    async def talk():
        monkeypatch.setattr(asyncio, "sleep", no_sleep)
        url = f"http://127.0.0.1:{free_port()}"
        async with asyncio.timeout(LIMIT_S), Session(url, is_patient=True) as session:
            while len(waits_s) < 7:
                await sleep(0.01)
            assert session.state in ("waiting", "connecting")

    asyncio.run(talk())
    assert waits_s[:7] == [1, 2, 3, 4, 5, 5, 5]


def test_a_session_that_shall_not_reconnect_ends_with_its_connection(running):
    async def talk():
        async with Session(running.url, token=TOKENS["viewer"], reconnects=False) as session:
            await asyncio.to_thread(running.stop)
            with pytest.raises(ConnectionLost, match=r"stop.* \(code 4010\)"):
                async with asyncio.timeout(LIMIT_S):
                    await anext(session.changes())

    asyncio.run(talk())


def test_who_is_one_too_many_is_told(running):
    async def talk():
        one = {"token": TOKENS["viewer"], "reconnects": False}
        async with Session(running.url, **one), Session(running.url, **one) as session:
            await anext(session.changes())

    with start_server(max_clients=1) as running, pytest.raises(ConnectionLost, match="too many clients"):
        asyncio.run(talk())


@pytest.mark.parametrize(("status", "error"), [(404, Refused), (503, NoConnection)])
def test_a_server_that_is_no_node_is_told(status, error):
    async def talk():
        def answer(connection, request):
            return connection.respond(HTTPStatus(status), "nothing here\n")

        port = free_port()
        node = serve(lambda connection: None, "127.0.0.1", port, process_request=answer)
        async with node, Session(f"ws://127.0.0.1:{port}"):
            pass

    with pytest.raises(error, match=str(status)):
        asyncio.run(talk())


def test_a_server_that_never_says_its_state_is_given_up(monkeypatch):
    monkeypatch.setattr(session_module, "READY_LIMIT_S", 0.2)

    async def talk():
        async with scripted([HELLO]) as (url, seen), Session(url):
            assert seen

    with pytest.raises(NoConnection, match="does not answer"):
        asyncio.run(talk())


def test_a_node_of_another_version_is_told():
    async def talk():
        newer = Hello(server="scripted", versions=(2, 3), epoch="e1", token=False)
        async with scripted([newer]) as (url, _), Session(url):
            pass

    with pytest.raises(Refused, match="the node speaks versions 2 to 3"):
        asyncio.run(talk())


@pytest.mark.parametrize(
    "nonsense", ["{", Deltas(changes=(Delta(revision=7, origin="c2", values={GAIN: -1.0}),))]
)
def test_a_mirror_that_missed_something_asks_for_the_whole_state(nonsense):
    async def talk():
        again = Snapshot(epoch="e1", revision=7, values={GAIN: -1.0})
        script = [HELLO, WELCOME, STATE, nonsense], [HELLO, WELCOME, again]
        async with scripted(*script) as (url, seen):
            session = Session(url)
            changes = session.changes()
            async with session:
                assert [await anext(changes), await anext(changes)] == [STATE, again]
                assert session.values == {GAIN: -1.0}
                assert [s.resume for s in seen] == [None, None]

    asyncio.run(asyncio.wait_for(talk(), LIMIT_S))


def test_a_listener_that_fails_ends_the_session_with_its_error(running):
    class Oddity(Exception):
        pass

    async def talk():
        def fail(message):
            raise Oddity

        async with asyncio.timeout(LIMIT_S), Session(running.url, token=TOKENS["operator"]) as session:
            session.on_message.append(fail)
            with pytest.raises(ConnectionLost):
                await session.set(GAIN, -1.0)
            assert session.state == "closed"

    with pytest.raises(Oddity):
        asyncio.run(talk())


# -- encrypted ---------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    pair = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    made = ["openssl", "req", *kind, *subject, "-out", str(pair[0]), "-keyout", str(pair[1])]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    return pair


def test_an_encrypted_node_is_reached_with_its_certificate_only(certificate, tmp_path):
    async def talk():
        async with Session(running.http_url, token=TOKENS["viewer"], ca_file=certificate[0]) as session:
            return session.values[GAIN]

    with start_server(tls=certificate) as running:
        assert running.http_url.startswith("https:")
        assert asyncio.run(talk()) == 0.0
        error = refused(NoConnection, running.http_url, token=TOKENS["viewer"])
        assert "not trusted here: name it with --ca-file" in str(error)
        error = refused(NoConnection, running.http_url, ca_file=tmp_path / "none.pem")
        assert "none.pem: is no certificate" in str(error)
