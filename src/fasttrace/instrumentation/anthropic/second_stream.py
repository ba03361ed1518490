"""The stream helper of early releases (0.30 to 0.4x), which throws away the stream that `request` returned.

There the manager takes only the HTTP response from that stream, and the helper makes a second stream around it: what
watches the first would see nothing of what is read from the second. So the helper is given the first one to read, as
later releases do themselves. Runs on callers' threads, once a helper is entered.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

from fasttrace.instrumentation.registry import Patch

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MODULE = "anthropic.lib.streaming"
HELPERS = ("MessageStream", "PromptCachingBetaMessageStream")


def read_the_first(original: Callable[..., Any]) -> Callable[..., Any]:
    """Stand for a helper's `__init__`, where it makes a stream; anywhere else it is the original."""
    code = getattr(original, "__code__", None)
    if code is None or "cast_to" not in code.co_varnames:
        return original

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        first = sys._getframe(1).f_locals.get("raw_stream")  # the manager's, which keeps it nowhere else
        if first is not None and getattr(first, "response", None) is self.response:
            self._raw_stream = first

    return __init__


def second_stream_patches() -> list[Patch]:
    return [
        Patch(MODULE, f"{prefix}{helper}.__init__", read_the_first, is_optional=True)
        for helper in HELPERS
        for prefix in ("", "Async")
    ]
