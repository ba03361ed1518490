"""What travels from the exporter thread to an exporter, and what the exporter answers.

An exporter makes one attempt and says what came of it; when to try again, what to cut in pieces and what to keep is
decided in one place, delivery.py. Everything here runs on the exporter thread (or in a command that replays a spool).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from fasttrace.exporters.compression import compress, decompress

if TYPE_CHECKING:
    from collections.abc import Callable

    # accepted: settled. retry: not now. bisect: a line in it is bad. halve: too large. pause: not before the
    # configuration changes. discarded: thrown away, as asked. recode: the exporter will say it in another encoding.
    Action = Literal["accepted", "retry", "bisect", "halve", "pause", "discarded", "recode"]

Answer = TypeVar("Answer")


class EncodedBatch(NamedTuple):
    """Spans as the bytes that go on the wire, the same bytes each time.

    batch_id: `writer_id:first_ticket:count`; a piece of a batch is `writer_id:first_ticket+line:count`, which no
    whole batch can be called, and neither can calls that were in the air, or spans without their texts: those are
    `writer_id:first_ticket+0:count`. encoding: `zstd`, `gzip` or `none`.
    """

    batch_id: str
    body: bytes
    encoding: str
    span_count: int

    def lines(self) -> list[bytes]:
        """The spans, one JSON object each. ValueError for a body that cannot be decoded."""
        return decompress(self.body, self.encoding).splitlines()

    def halves(self) -> list[EncodedBatch]:
        lines = self.lines()
        middle = len(lines) // 2
        return [self.piece(lines[:middle], 0), self.piece(lines[middle:], middle)]

    def piece(self, lines: list[bytes], offset: int) -> EncodedBatch:
        """A batch of some of this batch's lines, the first of them `offset` lines from its start."""
        writer, first, _ = self.batch_id.split(":")
        ticket, _, line = first.partition("+")
        batch_id = f"{writer}:{ticket}+{int(line or 0) + offset}:{len(lines)}"
        body = b"".join(line + b"\n" for line in lines)
        return EncodedBatch(batch_id, compress(body, self.encoding), self.encoding, len(lines))

    @property
    def writer(self) -> str:
        return self.batch_id.partition(":")[0]

    @property
    def first_ticket(self) -> int:
        """Of the batch; of a piece, that of the batch it was cut from."""
        return int(self.batch_id.split(":")[1].partition("+")[0])


class RejectedLine(NamedTuple):
    """A span that the collector will never take: its line in the batch, counted from 1, and why."""

    line: int
    error: str


class Outcome(NamedTuple):
    """What came of one attempt. reason: for log and stats, like `http 503` or `ConnectError`, never a secret. advice:
    what to do about a pause; for a retry, the setting to look at.

    rejected: the lines that the collector named; unnamed: how many more it rejected without saying which.
    """

    action: Action
    reason: str = ""
    rejected: tuple[RejectedLine, ...] = ()
    unnamed: int = 0
    retry_after_s: float | None = None
    advice: str = ""


ACCEPTED = Outcome("accepted")


class Exporter(Protocol):
    """One way out. `encoding`: how bodies are to be compressed. `takes_spool`: whether what lies in the spool, from
    this process and others, goes this way too. May raise anything: it counts as a failed attempt."""

    encoding: str
    takes_spool: bool

    def prepare(self) -> None:
        """Import and open what the first attempt needs."""

    def export(self, batch: EncodedBatch) -> Outcome: ...

    def close(self) -> None: ...

    def abandon(self) -> None:
        """In a fork child: let go of what is the parent's, without a word to anybody."""


@runtime_checkable
class TellsLoss(Protocol):
    """An exporter that tells the collector of loss. `others_lost`: spans of other processes that were lost from the
    spool by our hand, evicted or damaged; those of this process are counted by who opens the exporter."""

    others_lost: int


class Patience(Protocol):
    """How an exporter waits: never longer than its process has left, and never deaf to the rest of the pipeline."""

    def until_ready(self, timeout_s: float, fd: int, writing: bool) -> bool:
        """Wait for a descriptor. False when the time, or the process's, is up."""

    def back_off(self, delay_s: float) -> bool:
        """Sit out a delay before the next attempt. False when there is no time for one: somebody waits for us."""

    def aside(self, act: Callable[[], Answer], timeout_s: float) -> Answer | None:
        """The answer of something that cannot be interrupted; None when the time, or the process's, is up first."""

    def is_over(self) -> bool:
        """Whether the process has no time left for another attempt."""

    def is_awaited(self) -> bool:
        """Whether somebody waits for what is in the spool: then it is replayed without a pause."""


class OwnTime:
    """The Patience of a command that has a thread to itself."""

    def until_ready(self, timeout_s: float, fd: int, writing: bool) -> bool:
        return is_ready(fd, writing, timeout_s)

    def back_off(self, delay_s: float) -> bool:
        time.sleep(delay_s)
        return True

    def aside(self, act: Callable[[], Answer], timeout_s: float) -> Answer | None:
        return act()

    def is_over(self) -> bool:
        return False

    def is_awaited(self) -> bool:
        return True


def is_ready(fd: int, writing: bool, timeout_s: float) -> bool:
    """Wait for a socket to be readable (writable)."""
    import select

    timeout_s = max(timeout_s, 0.0)
    if not hasattr(select, "poll"):
        sockets = ([], [fd], [fd]) if writing else ([fd], [], [])
        return any(select.select(*sockets, timeout_s))
    poll = select.poll()
    poll.register(fd, select.POLLOUT if writing else select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
