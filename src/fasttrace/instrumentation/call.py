"""What every provider's calls share beyond the core's driver: finding the endpoint, counting retries.

Both run on callers' threads, off the usual path: once per client, once per retry.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from fasttrace import semconv
from fasttrace.core._api import CURRENT, Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

_DEFAULT_PORTS = {"http": 80, "https": 443}


def resolver(sdk: str) -> Callable[[object], Endpoint]:
    """A function from a client's base URL (an SDK's URL object or a string) to the Endpoint its calls go to."""

    def resolve(base_url: object) -> Endpoint:
        from urllib.parse import urlsplit

        url = urlsplit(str(base_url))
        host = url.hostname or ""
        port = url.port if url.port != _DEFAULT_PORTS.get(url.scheme) else None
        return Endpoint(semconv.provider_of(host) or sdk, host or None, port)

    return resolve


def count_retry(original: Callable[..., Any]) -> Callable[..., Any]:
    """Stand for the SDK's function that waits before it tries again: the current span counts one retry."""

    @functools.wraps(original)
    def counted(*args: Any, **kwargs: Any) -> Any:
        context = CURRENT.get()
        if context is not None:
            context.retries += 1
        return original(*args, **kwargs)

    return counted
