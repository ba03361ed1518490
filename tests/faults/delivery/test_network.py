"""Networks that fail in every way, rows A9 to A14: nothing is lost, and nothing goes where it should not."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from proxy import Cut, CuttingProxy, TlsServer, full_backlog
from shipment import batch_of, wait_until

import fasttrace
from collector import Collector, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Open = Callable[..., Any]

HERE = Path(__file__).resolve().parent
SOURCES = str(Path(fasttrace.__file__).parent.parent)
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="made of Linux's parts")


# ---- A9


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> trustme.CA:
    """The one that SSL_CERT_FILE names."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return ca


def serving(ca: trustme.CA, host: str = "127.0.0.1", **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(host, **options).configure_cert(context)
    return context


def old_tls(ca: trustme.CA) -> ssl.SSLContext:
    context = serving(ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1
    return context


def expired(ca: trustme.CA) -> ssl.SSLContext:
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    return serving(ca, not_before=yesterday - timedelta(days=9), not_after=yesterday)


BAD_TLS: dict[str, Callable[[trustme.CA], ssl.SSLContext]] = {
    "unknown authority": lambda ca: serving(trustme.CA()),
    "wrong host": lambda ca: serving(ca, "elsewhere.example.com"),
    "expired": expired,
    "tls 1.0": old_tls,
}


@pytest.mark.filterwarnings("ignore:.*TLSv1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize("fault", BAD_TLS)
def test_a09_tls_that_is_not_good_gets_no_byte_and_spans_wait(
    open_shipment: Open, authority: trustme.CA, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    bad = TlsServer(BAD_TLS[fault](authority))
    shipment = open_shipment(f"https://127.0.0.1:{bad.port}/api/ingest", api_key="s3cret", max_retries=2)
    shipment.ship(batch_of(10))
    bad.close()
    assert (bad.connections, bad.received) == (3, b"")
    assert shipment.delivery.tally.spooled == 10
    assert shipment.delivery.last_error.startswith("ConnectError")
    (line,) = [record.getMessage() for record in caplog.records if record.name == "fasttrace"]
    assert ("FASTTRACE_COLLECTOR_URL" if fault == "tls 1.0" else "SSL_CERT_FILE") in line
    shipment.check_ledger()


def test_a09_a_good_certificate_of_the_named_authority_is_taken(open_shipment: Open, authority: trustme.CA) -> None:
    good = TlsServer(serving(authority))
    shipment = open_shipment(f"https://127.0.0.1:{good.port}/api/ingest", api_key="s3cret")
    batches = [batch_of(10, first=10 * n) for n in range(3)]
    for batch in batches:
        shipment.ship(batch)
    shipment.close()
    good.close()
    assert (good.connections, good.failures) == (1, [])
    assert all(batch.body in good.received for batch in batches)
    assert shipment.delivery.tally.sent == 30
    shipment.check_ledger()


# ---- A10


def test_a10_a_name_that_resolves_again_is_followed_to_its_new_address(
    open_shipment: Open, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver fails; then it names a machine that is ill; then another. No address outlives a failure."""
    answers: list[int | OSError] = []
    with Collector() as ill:
        ill.rule = lambda lines: Reply(503)

        def resolve(host: bytes, port: int, **_: Any) -> list[Any]:
            assert host == b"collector.invalid"
            answer = answers.pop(0)
            if isinstance(answer, OSError):
                raise answer
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", answer))]

        failure = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        answers[:] = [failure, failure, failure, ill.port, ill.port, collector.port]
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        shipment = open_shipment("http://collector.invalid/api/ingest", max_retries=2)
        shipment.ship(batch_of(10))
        assert shipment.delivery.tally.spooled == 10
        assert "not known" in shipment.delivery.last_error
        for n in range(1, 4):
            shipment.delivery.hurry()
            shipment.ship(batch_of(10, first=10 * n))
        shipment.replay()
        shipment.check_all_arrived(collector)
        assert answers == []
        assert len(ill.batches) == 2


NAMELESS = """
import json, socket, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from shipment import Shipment, batch_of

port, real = int(sys.argv[2]), socket.getaddrinfo
shipment = Shipment("http://collector.invalid/api/ingest", Path(sys.argv[3]))
shipment.ship(batch_of(10))
before = shipment.delivery.tally.spooled, shipment.delivery.last_error
socket.getaddrinfo = lambda host, _, **options: real("127.0.0.1", port, **options)
shipment.replay()
shipment.check_ledger()
print(json.dumps([*before, shipment.delivery.tally.sent]))
"""


def test_a10_a_name_that_exists_nowhere_keeps_spans_until_it_does(collector: Collector, tmp_path: Path) -> None:
    done = run_script(NAMELESS, HERE, collector.port, tmp_path)
    spooled, error, sent = json.loads(done.stdout)
    assert (spooled, sent) == (10, 10)
    assert error.startswith("ConnectError: collector.invalid")
    assert sorted(collector.accepted_ids()) == [f"{n:016x}" for n in range(10)]


def run_script(script: str, *arguments: object, before: tuple[str, ...] = (), **environ: str) -> Any:
    done = subprocess.run(
        [*before, sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": SOURCES, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done


# ---- A11


@pytest.fixture
def proxy(collector: Collector) -> Iterator[CuttingProxy]:
    running = CuttingProxy(collector.port)
    yield running
    running.close()


def test_a11_a_connection_cut_at_any_byte_loses_and_doubles_nothing(
    open_shipment: Open, collector: Collector, proxy: CuttingProxy
) -> None:
    """Of a request of about 2 KB and of its reply: after each offset, by an RST and by an end in good order. The batch
    goes to the spool and from there to the collector, which may have had it before."""
    lines = [b'{"span_id":"%016x","note":"%s"}' % (n, os.urandom(40).hex().encode()) for n in range(14)]
    shipment = open_shipment(f"http://127.0.0.1:{proxy.port}/api/ingest")
    shipment.ship(batch_of(14, lines=lines, encoding="none"))
    shipment.close()
    wait_until(lambda: proxy.carried[1])
    up, down = proxy.carried
    assert 1800 < up < 2500
    cuts = [Cut(request=at, is_reset=at % 2 == 0) for at in range(up)]
    cuts += [Cut(reply=at, is_reset=at % 2 == 0) for at in range(down)]
    for number, cut in enumerate(cuts, 1):
        first = 14 * number
        named = [line.replace(line[12:28], b"%016x" % (first + n)) for n, line in enumerate(lines)]
        proxy.cuts = [cut]
        shipment.delivery.hurry()
        shipment.ship(batch_of(14, first=first, lines=named, encoding="none"))
        assert shipment.delivery.tally.spooled == 14
        shipment.replay()
        shipment.close()
    shipment.check_all_arrived(collector)
    copies: dict[str, set[bytes]] = {}
    for batch in collector.batches:
        copies.setdefault(batch.headers["x-batch-id"], set()).add(batch.body)
    assert len(copies) == len(cuts) + 1
    assert all(len(bodies) == 1 for bodies in copies.values()), "what came twice is the very same"


# ---- A12

ENDING = """
import importlib, os, sys, time
from fasttrace.config import load
from fasttrace.trace.processor import Processor

core = importlib.import_module("fasttrace.core._" + os.environ["CORE"])
processor = Processor(core, load(os.environ, {})[0])
fields = {"kind": "llm", "operation": "chat", "provider": "openai", "model_id": "gpt-4o-mini", "status": "success"}
for _ in range(500):
    processor.recorder.record(core.new_context(None), 1, 1, fields)
begun_s = time.monotonic()
processor.shutdown()
result = processor.stats()
assert result.spooled == result.recorded == 500, result
sys.stdout.write(f"{time.monotonic() - begun_s:.3f}")
"""


def may_unshare() -> bool:
    return subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0


@linux_only
@pytest.mark.parametrize("hole", ["backlog", "no network"])
def test_a12_a_black_hole_does_not_hold_the_exit(core: Any, tmp_path: Path, hole: str) -> None:
    if hole == "no network" and not may_unshare():
        pytest.skip("no right to make a network namespace")
    listener, waiting = full_backlog()
    port = listener.getsockname()[1]
    before = ("unshare", "-n") if hole == "no network" else ()
    url = f"http://127.0.0.1:{port}" if hole == "backlog" else "http://10.255.255.1"
    settings = {"CORE": core.BACKEND, "FASTTRACE_COLLECTOR_URL": url, "FASTTRACE_STATE_DIR": str(tmp_path / "state")}
    settings |= {"FASTTRACE_RING_DIR": str(tmp_path / "ring"), "FASTTRACE_SHUTDOWN_TIMEOUT": "0.5"}
    done = run_script(ENDING, before=before, FASTTRACE_ALLOW_HTTP="true", **settings)
    print("shutdown took", done.stdout, "s of 0.5")
    assert list((tmp_path / "ring").iterdir()) == [], "everything is in the spool"
    assert len(list((tmp_path / "state" / "spool").glob("*.ndjson*"))) >= 1
    for sock in (listener, *waiting):
        sock.close()


# ---- A13


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a13_a_redirect_is_not_followed(
    open_shipment: Open, collector: Collector, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    with Collector() as elsewhere:
        collector.script = [Reply(status, b"", (("Location", elsewhere.url),))]
        shipment = open_shipment(collector.url, api_key="s3cret")
        shipment.ship(batch_of(10))
        shipment.replay()
        assert (elsewhere.connections, elsewhere.batches) == (0, [])
    assert shipment.delivery.tally.spooled == 10
    assert shipment.delivery.last_error == f"http {status}"
    assert "FASTTRACE_COLLECTOR_URL" in caplog.text
    shipment.check_ledger()


# ---- A14


@pytest.mark.parametrize("is_trusted", [False, True])
def test_a14_a_proxy_of_the_environment_gets_no_byte_unless_it_is_asked_for(
    open_shipment: Open, collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_trusted: bool
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login netrc password netrc\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Collector() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            for spelled in (name, name.lower()):
                monkeypatch.setenv(spelled, f"http://user:pr0xy@127.0.0.1:{proxy.port}")
        shipment = open_shipment(collector.url, trust_env=is_trusted)
        shipment.ship(batch_of(10))
        assert (proxy.connections, collector.connections) == ((1, 0) if is_trusted else (0, 1))
        (received,) = (proxy if is_trusted else collector).batches
        assert "authorization" not in received.headers, ".netrc is not read"
        assert ("proxy-authorization" in received.headers) == is_trusted
        assert received.lines == batch_of(10).lines()
    assert shipment.delivery.tally.sent == 10
    shipment.check_ledger()


def test_a14_a_tunnel_keeps_the_key_from_the_proxy(
    open_shipment: Open, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONNECT, then TLS to the collector inside: a proxy that refuses has seen the name and nothing else."""
    seen: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:pr0xy@127.0.0.1:{listener.getsockname()[1]}")
    good = TlsServer(serving(authority, "collector.example.com"))
    serve_tunnels(listener, good.port, seen)
    shipment = open_shipment("https://collector.example.com/api/ingest", api_key="s3cret", trust_env=True)
    shipment.ship(batch_of(10))
    shipment.close()
    good.close()
    assert shipment.delivery.tally.sent == 10
    assert seen[0].startswith(b"CONNECT collector.example.com:443 ")
    assert b"proxy-authorization: basic" in seen[0].lower()
    assert b"s3cret" not in b"".join(seen)
    assert b"Bearer s3cret" in good.received
    assert b"proxy-authorization" not in good.received.lower()
    shipment.check_ledger()


@pytest.mark.parametrize("status, is_pause", [(407, True), (403, True), (502, False), (429, False)])
def test_a14_a_proxy_that_opens_no_tunnel_is_named_and_not_the_collector(
    open_shipment: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int, is_pause: bool
) -> None:
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    listener = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:pr0xy@127.0.0.1:{listener.getsockname()[1]}")
    thread = threading.Thread(target=refuse_tunnels, args=(listener, status, 1 if is_pause else 3))
    thread.start()
    shipment = open_shipment("https://collector.example.com/api/ingest", trust_env=True, max_retries=2)
    shipment.ship(batch_of(10))
    thread.join()
    listener.close()
    assert bool(shipment.delivery.why_paused) == is_pause
    (line,) = [record.getMessage() for record in caplog.records if record.name == "fasttrace"]
    assert "HTTPS_PROXY" in line and str(status) in line and "COLLECTOR_URL" not in line and "pr0xy" not in line
    assert shipment.delivery.tally.spooled == 10
    shipment.check_ledger()


def refuse_tunnels(listener: socket.socket, status: int, count: int) -> None:
    """Answer so many CONNECTs with `status`."""
    listener.settimeout(20)
    for _ in range(count):
        client, _ = listener.accept()
        with client:
            client.recv(65536)
            client.sendall(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())


def serve_tunnels(listener: socket.socket, port: int, seen: list[bytes]) -> None:
    """A proxy that carries one CONNECT to `port`, and keeps what it can read."""

    def serve() -> None:
        client, _ = listener.accept()
        with listener, client, socket.create_connection(("127.0.0.1", port)) as server:
            seen.append(client.recv(65536))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=carry, args=(server, client))
            back.start()
            carry(client, server, seen)
            back.join()

    def carry(source: socket.socket, target: socket.socket, kept: list[bytes] | None = None) -> None:
        try:
            while data := source.recv(65536):
                if kept is not None:
                    kept.append(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the other end has gone

    threading.Thread(target=serve, daemon=True).start()
