"""Which settings of Valkey are refused at start, how the service logs in, and what is not shown."""

import asyncio
import ssl
import subprocess
import threading
from contextlib import contextmanager

import pytest

from jobs.contract.valkey import parse_server
from tests.api.release.test_answers import client_of
from tests.support import releases
from tests.support.server import free_port
from tests.support.server import start as start_service

PASSWORD = "a-password-that-nobody-sees"


@pytest.fixture
def work(tmp_path):
    releases.make(tmp_path)
    return tmp_path


def start_of(work, address, **settings):
    """The exit code and the output of a service that is refused at its start."""
    process = start_service(
        ["--port", str(free_port())], subprocess.PIPE, WORK=str(work), EVENTS=address, **settings
    )
    output = process.communicate(timeout=60)[0].decode()
    return process.returncode, output


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"appendfsync": "everysec"}, "appendfsync is everysec: write `appendfsync always` or"),
        ({"appendonly": "no"}, "appendonly is no: write `appendonly yes`"),
        ({"maxmemory_policy": "allkeys-lru"}, "write `maxmemory-policy noeviction`"),
        ({"save": "3600 1"}, 'save is 3600 1: write `save ""`'),
    ],
)
def test_settings_that_cannot_keep_a_promise_end_the_start_with_one_line(
    work, start, options, line
):
    code, output = start_of(work, start(**options).address)
    assert code == 1
    assert line in output
    assert len(output.strip().splitlines()) == 1


def test_a_server_that_hides_its_settings_needs_a_setting_and_is_shown(work, start):
    server = start(rename_command="CONFIG hidden")
    code, output = start_of(work, server.address)
    assert (code, "RECO_EVENTS_UNVERIFIED=on" in output) == (1, True)
    address = parse_server(server.address)
    with client_of(work, events=address, events_unverified="on") as client:
        client.put(9, 5)
        assert client.answer("/health/ready")["events"] == "unverified"
        assert "reco_events_unverified 1.0" in client.get("/metrics").text


def test_a_replica_has_to_be_counted_or_left_out_by_a_setting(work, valkey, start):
    start("replica", replicaof=f"127.0.0.1 {valkey.port}")
    while not valkey.ask("ROLE")[2]:
        pass
    code, output = start_of(work, valkey.address)
    assert (code, "set RECO_EVENTS_REPLICAS" in output) == (1, True)
    code, output = start_of(work, f"valkey://127.0.0.1:{valkey.port + 0}", EVENTS_REPLICAS="x")
    assert (code, "RECO_EVENTS_REPLICAS='x'" in output) == (1, True)


def test_a_password_lets_in_and_is_shown_nowhere(work, start, tmp_path):
    server = start(requirepass=PASSWORD)
    code, output = start_of(work, server.address)
    assert (code, "NOAUTH" in output) == (1, True)
    code, output = start_of(work, server.address, EVENTS_PASSWORD=f"wrong-{PASSWORD}")
    assert (code, "WRONGPASS" in output, PASSWORD in output) == (1, True, False)
    with_password = server.address.replace("//", f"//reco:{PASSWORD}@")
    code, output = start_of(work, with_password)
    assert (code, "RECO_EVENTS_PASSWORD" in output, PASSWORD in output) == (1, True, False)
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    address = parse_server(server.address)
    for settings in ({"events_password": PASSWORD}, {"events_password_file": file}):
        with client_of(work, events=address, **settings) as client:
            client.put(9, 5)
            assert PASSWORD not in client.get("/health/ready").text
            assert PASSWORD not in repr(client.app)


@contextmanager
def tls_in_front(port, certificate, key, ca):
    """A port that takes TLS with a client certificate and passes on to another port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
    loop, own_port = asyncio.new_event_loop(), free_port()

    async def pipe(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    async def serve(reader, writer):
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pipe(reader, other_writer), pipe(other_reader, writer))

    async def listen():
        server = await asyncio.start_server(serve, "127.0.0.1", own_port, ssl=context)
        await server.start_serving()

    loop.run_until_complete(listen())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield own_port
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def certificates(folder):
    """A certificate of an authority, and one that it signed for localhost, with its key."""
    for command in (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem "
        "-subj /CN=ca -days 2",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout own.key -out own.csr "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost",
        "x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out own.pem -days 2 "
        "-copy_extensions copy",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder / "ca.pem", folder / "own.pem", folder / "own.key"


def test_tls_checks_the_name_and_sends_the_certificate_of_the_client(work, valkey, tmp_path):
    ca, own, key = certificates(tmp_path)
    with tls_in_front(valkey.port, own, key, ca) as port:
        settings = {"events_ca": ca, "events_certificate": own, "events_certificate_key": key}
        with client_of(
            work, events=parse_server(f"valkeys://localhost:{port}/0"), **settings
        ) as client:
            client.put(9, 5)
            assert client.answer("/get_user_events", user_id=9) == {"events": [5]}
        for address, changed in (
            (f"valkeys://127.0.0.1:{port}/0", {}),  # the certificate is of another name
            (f"valkeys://localhost:{port}/0", {"events_ca": None}),  # an unknown authority
        ):
            with client_of(work, events=parse_server(address), **settings | changed) as client:
                assert "CERTIFICATE_VERIFY_FAILED" in client.get("/health/ready").text
