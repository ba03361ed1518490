"""What every provider's calls share beyond the core's driver: the seam of generated SDKs, the endpoint, retries.

Two of the official SDKs, openai and anthropic, are made by one generator: every call of theirs goes once through
`SyncAPIClient.request` or `AsyncAPIClient.request`, whatever public method, helper or cached raw method made it.

`resolve` and `counted` run on callers' threads, off the usual path: once per client, once per retry.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from fasttrace import semconv
from fasttrace.core._api import CURRENT, Endpoint, Router
from fasttrace.instrumentation.registry import Patch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fasttrace.core._api import CallSpec

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NO_CLASSES: Mapping[str, str] = {}

# From the client that `request` is bound to, which names the host, to the object that does.
CLIENT_ENDPOINT = ("_base_url",)

# What a host or a port tells of these is less than a client's class does: more than one API answers there.
_VAGUE = (None, semconv.AZURE_INFERENCE, semconv.OLLAMA)


def resolver(sdk: str, provider_by_class: Mapping[str, str] = _NO_CLASSES) -> Callable[[object, object], Endpoint]:
    """A function from a client's base URL (an SDK's URL object or a string) and the client to the calls' Endpoint.

    A host that nobody published is often a gateway, and one of Azure's has more than one API: then the client's class
    tells, by the name of one of its bases. Where neither does, the provider is the SDK's own.
    """

    def resolve(base_url: object, client: object) -> Endpoint:
        from urllib.parse import urlsplit

        url = urlsplit(str(base_url))
        host = url.hostname or ""
        port = url.port if url.port != _DEFAULT_PORTS.get(url.scheme) else None
        named = semconv.provider_of(host, port)
        if named in _VAGUE:
            named = _provider_of_class(client, provider_by_class) or named
        return Endpoint(named or sdk, host or None, port)

    return resolve


def _provider_of_class(client: object, provider_by_class: Mapping[str, str]) -> str | None:
    names = (base.__name__ for base in type(client).__mro__)
    return next((provider_by_class[name] for name in names if name in provider_by_class), None)


def client_patches(
    sdk: str,
    routes: Callable[[bool], Mapping[str, CallSpec]],
    method: Callable[[Any, Any], Any],
    switch: Callable[[Any, bool], None],
) -> list[Patch]:
    """The seam of a generated SDK: `routes(is_async)` are its calls, `method(original, router)` what records them.

    The waits before a retry are a seam too, because nothing in a reply tells how often it was tried.
    """
    found = []
    for client, is_async in (("SyncAPIClient", False), ("AsyncAPIClient", True)):
        replace = functools.partial(_record, method, Router(routes(is_async)))
        module = f"{sdk}._base_client"
        found += [
            Patch(module, f"{client}.request", replace, switch),
            # Older releases retry by calling themselves, later ones in a loop.
            Patch(module, f"{client}._sleep_for_retry", count_retry, is_optional=True),
            Patch(module, f"{client}._retry_request", count_retry, is_optional=True),
        ]
    return found


def _record(method: Callable[[Any, Any], Any], router: Router, original: Any) -> Any:
    return method(original, router)


def count_retry(original: Callable[..., Any]) -> Callable[..., Any]:
    """Stand for the SDK's function that waits before it tries again: the current span counts one retry."""

    @functools.wraps(original)
    def counted(*args: Any, **kwargs: Any) -> Any:
        context = CURRENT.get()
        if context is not None:
            context.retries += 1
        return original(*args, **kwargs)

    return counted


def count_attempt(original: Callable[..., Any]) -> Callable[..., Any]:
    """Stand for the SDK's function that makes one attempt: the current span's attempts after the first are retries.

    A coroutine function stays one, because what calls it again and again asks which way to do so.
    """
    import inspect

    @functools.wraps(original)
    def counted(*args: Any, **kwargs: Any) -> Any:
        _count_attempt()
        return original(*args, **kwargs)

    @functools.wraps(original)
    async def counted_async(*args: Any, **kwargs: Any) -> Any:
        _count_attempt()
        return await original(*args, **kwargs)

    return counted_async if inspect.iscoroutinefunction(original) else counted


def _count_attempt() -> None:
    context = CURRENT.get()
    if context is not None:
        context.attempts += 1
        context.retries = context.attempts - 1
