"""Waiting in a command: as long as the exporter asks, but never deaf to Ctrl-C, and never past a stuck name server.

The first Ctrl-C only says that it is enough: what is under way is put back where it was. The second ends the process
as it would without us; what it had in its hands is then found by the next one. Main thread.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from fasttrace.exporters.base import OwnTime, is_ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from fasttrace.exporters.base import Answer

SLICE_S = 0.1


class CommandTime(OwnTime):
    """The Patience of a command. `is_interrupted` is set by the first Ctrl-C while `with` is around."""

    def __init__(self) -> None:
        self.is_interrupted = False
        self._before: Any = None

    def __enter__(self) -> CommandTime:
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _interrupt(self, *_: object) -> None:
        self.is_interrupted = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def until_ready(self, timeout_s: float, fd: int, writing: bool) -> bool:
        return self._wait(timeout_s, lambda slice_s: is_ready(fd, writing, slice_s))

    def back_off(self, delay_s: float) -> bool:
        def is_done(slice_s: float) -> bool:
            time.sleep(slice_s)
            return False

        self._wait(delay_s, is_done)
        return not self.is_interrupted

    def aside(self, act: Callable[[], Answer], timeout_s: float) -> Answer | None:
        answers: list[Answer] = []
        thread = threading.Thread(target=lambda: answers.append(act()), daemon=True)
        thread.start()

        def is_done(slice_s: float) -> bool:
            thread.join(slice_s)
            return not thread.is_alive()

        self._wait(timeout_s, is_done)
        return answers[0] if answers else None

    def _wait(self, timeout_s: float, is_done: Callable[[float], bool]) -> bool:
        until_s = time.monotonic() + timeout_s
        while not self.is_interrupted:
            left_s = until_s - time.monotonic()
            if is_done(min(max(left_s, 0.0), SLICE_S)):
                return True
            if left_s <= 0:
                return False
        return False

    def is_over(self) -> bool:
        return self.is_interrupted
