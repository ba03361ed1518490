"""What the environment says about the way to a collector: proxies, and the authorities that sign certificates.

SSL_CERT_FILE and SSL_CERT_DIR are always followed: they can only be set by whoever runs the process, and a company's
own authority is what they are for. Proxies see whom we talk to, and with plain http the spans too, so HTTP_PROXY and
the like are followed only when FASTTRACE_TRUST_ENV says so. Neither `.netrc` nor a proxy from the system's settings is
ever read. Credentials of a proxy are kept out of every text. Exporter thread only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl


class UnusableEnvironment(ValueError):
    """A variable of the environment that cannot be followed. The message names it, and tells no secret."""


class Proxy(NamedTuple):
    """url: without credentials. auth: user and password, if the variable had them."""

    url: str
    auth: tuple[bytes, bytes] | None

    def __repr__(self) -> str:
        return f"Proxy({self.url!r}, auth={'***' if self.auth else None})"


def proxy_for(url: str) -> Proxy | None:
    """The proxy that the environment names for `url`, None where it names none or NO_PROXY excepts the host."""
    from urllib.parse import unquote_to_bytes, urlsplit
    from urllib.request import getproxies_environment
    from urllib.request import proxy_bypass_environment as is_excepted  # type: ignore[attr-defined]

    target = urlsplit(url)
    proxies = getproxies_environment()
    name = target.scheme if target.scheme in proxies else "all"
    text = proxies.get(name)
    if not text or is_excepted(target.netloc, proxies):
        return None
    variable = f"{name.upper()}_PROXY"
    try:
        proxy = urlsplit(text if "://" in text else f"http://{text}")
        host, port = proxy.hostname, proxy.port
    except ValueError:
        raise UnusableEnvironment(f"{variable}: expected a URL like http://proxy:3128") from None
    if proxy.scheme != "http" or not host:
        raise UnusableEnvironment(f"{variable}: only a proxy like http://proxy:3128 can be used, not {proxy.scheme}://")
    auth = (unquote_to_bytes(proxy.username), unquote_to_bytes(proxy.password or "")) if proxy.username else None
    shown = f"[{host}]" if ":" in host else host
    return Proxy(f"http://{shown}:{port or 80}", auth)


def tls_context() -> ssl.SSLContext:
    """TLS 1.2 at least, every certificate verified, against the authorities of SSL_CERT_FILE and SSL_CERT_DIR, or,
    where neither is set, those that httpx brings."""
    import ssl

    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or folder:
        context = _of_authorities(file or None, folder or None)
    else:
        import httpx

        context = httpx.create_ssl_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _of_authorities(file: str | None, folder: str | None) -> ssl.SSLContext:
    import ssl

    if folder and not os.path.isdir(folder):
        raise UnusableEnvironment(f"SSL_CERT_DIR={folder}: no such directory")
    try:
        return ssl.create_default_context(cafile=file, capath=folder)
    except OSError as error:
        raise UnusableEnvironment(f"SSL_CERT_FILE={file}: {error.strerror or error}") from error
