"""Waking a thread that waits, for itself and for a socket."""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from fasttrace.trace import wakeup as module
from fasttrace.trace.wakeup import ONE, Wakeup

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["native", "pipe", "sockets"])
def wakeup(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wakeup]:
    """Every way of waking, as far as this system has it."""
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)
    if request.param == "sockets":
        monkeypatch.setattr(module.sys, "platform", "win32")
    woken = Wakeup()
    yield woken
    woken.close()


def test_it_is_not_set_at_first(wakeup: Wakeup) -> None:
    assert wakeup.wait(0) == (False, False)


def test_set_is_seen_once_however_often_it_was_set(wakeup: Wakeup) -> None:
    for _ in range(100_000):
        wakeup.set()
    assert wakeup.wait(0) == (True, False)
    for _ in range(1000):  # a full pipe takes several readings
        if wakeup.wait(0) == (False, False):
            break
        assert sys.platform != "linux" or wakeup.fd < 0 or not hasattr(os, "eventfd")
    assert wakeup.wait(0) == (False, False)


def test_it_wakes_a_waiting_thread(wakeup: Wakeup) -> None:
    seen: list[tuple[bool, bool]] = []
    thread = threading.Thread(target=lambda: seen.append(wakeup.wait(20)))
    thread.start()
    wakeup.set()
    thread.join()
    assert seen == [(True, False)]


def test_what_the_native_core_writes_wakes_it(wakeup: Wakeup) -> None:
    if wakeup.fd < 0:  # sockets: the core does not write to them
        wakeup.set()
    else:
        os.write(wakeup.fd, ONE)
    assert wakeup.wait(20) == (True, False)


def test_a_socket_is_waited_for_too(wakeup: Wakeup) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert wakeup.wait(0, ours.fileno()) == (False, False)
        assert wakeup.wait(20, ours.fileno(), writing=True) == (False, True)
        theirs.send(b"x")
        assert wakeup.wait(20, ours.fileno()) == (False, True)
        wakeup.set()
        assert wakeup.wait(20, ours.fileno()) == (True, True)


def test_no_timeout_is_too_long_or_too_short(wakeup: Wakeup) -> None:
    wakeup.set()
    assert wakeup.wait(1e20) == (True, False)
    assert wakeup.wait(-1.0) == (False, False)


def test_a_number_that_is_somebody_elses_by_now_is_left_alone(wakeup: Wakeup) -> None:
    lost = {wakeup._read_fd, wakeup._write_fd}
    for fd in lost:
        os.close(fd)
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    wakeup.set()
    assert wakeup.wait(0) == (True, False)
    assert wakeup.wait(20) == (True, False), "it looks around by itself"
    wakeup.close()
    assert (wakeup.fd, wakeup.is_lost) == (-1, True)
    with pytest.raises(BlockingIOError):
        os.read(reads, 9)
    os.write(writes, b"x")
    assert os.read(reads, 9) == b"x"
    for fd in (reads, writes):
        os.close(fd)


def test_a_closed_one_may_still_be_set(wakeup: Wakeup) -> None:
    wakeup.close()
    wakeup.set()
    wakeup.close()


def test_a_lost_one_still_waits_for_a_socket(wakeup: Wakeup) -> None:
    wakeup.close()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        assert wakeup.wait(20, ours.fileno()) == (True, True)
