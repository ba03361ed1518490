"""One batch on its way, and what is known of it when its collector refuses some of it.

A refusal (400, 422) says that a line is bad, or that the whole of it is: the tenant, the port, a schema that is rolled
out. Which of them is told by an acceptance. While the collector has accepted nothing, refused lines are only suspected;
what it accepts convicts them. If it refuses all of a batch, or refuses so often without accepting anything, nothing is
rejected: the batch goes to the spool as it was, and there is a pause, as where a key is refused. Once something was
accepted, a batch is bisected to its end, however many of its lines are bad; but one that was refused so often, and
wholly, takes the acceptance off the record, so that a collector that changed its mind costs no more than one batch.

One thread: the exporter's.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fasttrace.exporters.base import EncodedBatch


class Course:
    """One batch on its way. `pieces` are still to be sent, first the first half of what was refused; `later` cannot be
    sent now; `suspects` were refused, each a line by itself with the reason, and nothing was accepted yet."""

    def __init__(self, batch: EncodedBatch) -> None:
        self._batch = batch
        self.pieces = deque([batch])
        self.later: list[EncodedBatch] = []
        self.suspects: list[tuple[EncodedBatch, str]] = []
        self.refusals = 0
        self.is_any_accepted = False

    def first(self, pieces: Sequence[EncodedBatch]) -> None:
        self.pieces.extendleft(reversed(pieces))

    def is_all_refused(self) -> bool:
        return bool(self.suspects) and not self.pieces and not self.later

    def hold_back(self) -> None:
        self.later += self.pieces
        self.pieces.clear()

    def left(self) -> list[EncodedBatch]:
        """What is not settled: the batch itself, the same bytes, if that is all of it."""
        left = [*self.later, *(piece for piece, _ in self.suspects), *self.pieces]
        is_all = sum(piece.span_count for piece in left) == self._batch.span_count
        return [self._batch] if is_all else left
