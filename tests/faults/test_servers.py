"""Row B7: gunicorn and its workers, which fork, are recycled after some requests, and aborted when they are stuck."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from host import WATCHDOG_S

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from host import Host

    Rounds = Callable[[int, int], int]

pytest.importorskip("gunicorn", reason="gunicorn is not installed")

WORKERS = {
    "sync": "web:wsgi",
    "gthread": "web:wsgi",
    "gevent": "web:wsgi",
    "uvicorn.workers.UvicornWorker": "web:asgi",
}
CLIENTS = 4


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Server:
    """A gunicorn with two workers; what it logged is in `log`."""

    def __init__(self, host: Host, kind: str, *options: str) -> None:
        self.port = free_port()
        self.log = host.folder / f"gunicorn-{self.port}.log"
        command = [sys.executable, "-W", "ignore", "-m", "gunicorn", WORKERS[kind], "--worker-class", kind]
        command += ["--bind", f"127.0.0.1:{self.port}", "--workers", "2", "--log-file", str(self.log), *options]
        command += ["--no-control-socket"] if has_control_socket() else []
        self.process: subprocess.Popen[str] = host.start("", *command, FASTTRACE_FLUSH_INTERVAL="0.1")

    def ask(self, path: str = "/") -> bool:
        """Whether it answered; a worker that ends closes its connections."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WATCHDOG_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().read() == b"ok"
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def ask_often(self, count: int, boots: int = 0) -> int:
        """From several connections at once, until so many were answered and so many workers have been; how many were
        answered."""
        answered: list[int] = []
        give_up_s = time.monotonic() + WATCHDOG_S

        def client() -> None:
            while (len(answered) < count or self.boots() < boots) and time.monotonic() < give_up_s:
                if self.ask():
                    answered.append(1)

        threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(answered)

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def boots(self) -> int:
        return len(re.findall("Booting worker", self.text()))


def has_control_socket() -> bool:
    from gunicorn.config import Config

    return "no_control_socket" in Config().settings or "control_socket_disable" in Config().settings


@contextmanager
def serving(host: Host, kind: str, *options: str) -> Iterator[Server]:
    server = Server(host, kind, *options)
    give_up_s = time.monotonic() + WATCHDOG_S
    while "Booting worker" not in server.text():
        assert server.process.poll() is None and time.monotonic() < give_up_s, server.text()
        time.sleep(0.02)
    yield server
    os.kill(server.process.pid, signal.SIGTERM)
    host.finish(server.process)
    assert "fasttrace" not in server.text(), server.text()


@pytest.mark.parametrize("kind", WORKERS)
def test_b07_every_request_has_its_span_though_workers_come_and_go(host: Host, rounds: Rounds, kind: str) -> None:
    """In a short run one core has its application loaded before the fork, the other in each worker."""
    pytest.importorskip(kind.partition(".")[0] if kind != "sync" and kind != "gthread" else "gunicorn")
    requests, boots = rounds(300, 5000), 2 + rounds(5, 50)
    ways = [["--preload"], []][: rounds(1, 2)] if host.core.BACKEND == "native" else [[], ["--preload"]][: rounds(1, 2)]
    for way in ways:
        with serving(host, kind, "--max-requests", str(requests // boots), *way) as server:
            assert server.ask_often(requests, boots) >= requests
            assert server.boots() >= boots, server.text()
    assert host.settle()["collector"] >= requests * len(ways)


@pytest.mark.parametrize("kind", ["sync", "gevent"])
def test_b07_a_stuck_worker_that_is_aborted_has_delivered(host: Host, kind: str) -> None:
    with serving(host, kind, "--timeout", "1", "--workers", "1") as server:
        assert server.ask_often(10) >= 10
        stuck = threading.Thread(target=server.ask, args=("/stuck",))
        stuck.start()
        stuck.join()
        assert "WORKER TIMEOUT" in server.text()
        assert server.ask_often(10) >= 10
    assert host.settle()["collector"] >= 21
