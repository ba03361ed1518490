"""What `fasttrace doctor` asks of the collector: address, name, connection, key, clock; each step with a deadline.

The question is a batch of no spans, posted by the exporter itself with the key and the certificates that it would use;
whether the reply is a collector's is for the exporter's own judgement. The key is never printed, nor any part of it.
"""

from __future__ import annotations

import os
import re
import socket
import time
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fasttrace.cli.check import Check, fail, ok, warn
from fasttrace.cli.patience import CommandTime
from fasttrace.cli.terminal import plain
from fasttrace.config import VERSION
from fasttrace.exporters.base import EncodedBatch
from fasttrace.exporters.environment import UnusableEnvironment, proxy_for
from fasttrace.exporters.http import HttpExporter, judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fasttrace.config import Config
    from fasttrace.exporters.base import Outcome
    from fasttrace.exporters.environment import Proxy
    from fasttrace.exporters.http import Reply

STEP_S = 3.0
SKEW_WARN_S, SKEW_FAIL_S = 2.0, 300.0
NOTHING = EncodedBatch(f"{'0' * 32}:0:0", b"", "none", 0)
LATER = (408, 429, 503)
ELSEWHERE = {
    "file": "spans go to FASTTRACE_FILE",
    "spool": "spans stay in the spool",
    "none": "spans are thrown away",
}
BY_PROXY = "name the proxy's user and password in HTTP_PROXY or HTTPS_PROXY (http://user:password@proxy:3128)"
NO_COLLECTOR = "correct FASTTRACE_COLLECTOR_URL; if it is right, see whether a login page or a proxy is in between"
PROXY_VARIABLES = ("https_proxy", "http_proxy", "all_proxy")


def collector(config: Config, environ: Mapping[str, str] = os.environ) -> Iterator[Check]:
    if config.exporter != "http":
        yield ok("collector", f"not used: FASTTRACE_EXPORTER={config.exporter}, {ELSEWHERE[config.exporter]}")
        return
    if config.collector_url is None:
        yield _no_address(environ)
        return
    yield _key(config)
    try:
        proxy = proxy_for(config.collector_url) if config.trust_env else None
    except UnusableEnvironment as error:
        yield fail("proxy", str(error), "correct that variable, or unset FASTTRACE_TRUST_ENV")
        return
    yield from _proxies(config, environ, proxy)
    yield from _reach(config, config.collector_url, proxy.url if proxy else config.collector_url)


def _no_address(environ: Mapping[str, str]) -> Check:
    advice = "set FASTTRACE_COLLECTOR_URL, like https://collector.example.com"
    if environ.get("FASTTRACE_COLLECTOR_URL"):
        return fail("collector", "the address is not usable (settings, above): spans stay in the spool", advice)
    return warn("collector", "no address: spans stay in the spool", advice)


def _key(config: Config) -> Check:
    if config.api_key:
        return ok("key", "FASTTRACE_API_KEY is set")
    return ok("key", "FASTTRACE_API_KEY is not set: requests carry no key")


def _reach(config: Config, url: str, first: str) -> Iterator[Check]:
    """`first`: what is connected to, the collector or a proxy before it."""
    parts = urlsplit(first)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    addresses = CommandTime().aside(partial(_look_up, host, port), STEP_S)
    if not isinstance(addresses, list):
        found = f"{host} has no address: {addresses or f'no answer within {STEP_S:g} s'}"
        yield fail("collector", found, f"correct {_variable(url, first)}, or the name servers of this machine")
        return
    problem = _connect(addresses)
    if problem:
        found = f"{host} port {port} does not take connections: {problem}"
        yield fail("collector", found, f"start it, open the way to it, or correct {_variable(url, first)}")
        return
    yield from _ask(config, url)


def _variable(url: str, first: str) -> str:
    return "FASTTRACE_COLLECTOR_URL" if url == first else "HTTPS_PROXY or HTTP_PROXY"


def _look_up(host: str, port: int) -> list[tuple[int, object]] | str:
    try:
        found = socket.getaddrinfo(host.encode("idna"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return str(error)
    return [(family, address) for family, _, _, _, address in found]


def _connect(addresses: Sequence[tuple[int, object]]) -> str:
    """Why none of the addresses takes a connection; "" for one that does."""
    until_s = time.monotonic() + STEP_S
    problem = ""
    for family, address in addresses:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.settimeout(max(until_s - time.monotonic(), 0.01))
            try:
                sock.connect(address)  # type: ignore[arg-type]
                return ""
            except TimeoutError:
                problem = f"no answer within {STEP_S:g} s"
            except OSError as error:
                problem = error.strerror or str(error)
    return problem


def _ask(config: Config, url: str) -> Iterator[Check]:
    exporter = HttpExporter(
        url,
        patience=CommandTime(),
        version=VERSION,
        api_key=config.api_key,
        tenant_id=config.tenant_id,
        timeout_s=STEP_S,
        trust_env=config.trust_env,
    )
    began_s = time.time()
    try:
        reply = exporter.ask(NOTHING)
    except Exception as error:
        yield _no_reply(url, error)
        return
    finally:
        exporter.close()
    yield _judge(config, url, reply)
    yield from _skew(reply, began_s, time.time())


def _no_reply(url: str, error: Exception) -> Check:
    reason = plain(f"{type(error).__name__}: {error}", 300)
    if isinstance(error, UnusableEnvironment):
        return fail("collector", str(error), "correct that variable")
    if "CERTIFICATE" in reason.upper():
        advice = "name the authority's file in SSL_CERT_FILE, or use the host name that the certificate is for"
        return fail("collector", f"{url}: its certificate is not trusted ({reason})", advice)
    if "SSL" in reason.upper() or "TLS" in reason.upper():
        return fail("collector", f"{url} does not speak TLS ({reason})", "correct FASTTRACE_COLLECTOR_URL")
    if type(error).__name__ == "ProxyError":
        advice = BY_PROXY if "407" in reason else "look at the proxy, or unset FASTTRACE_TRUST_ENV"
        return fail("collector", f"the proxy does not lead to {url} ({reason})", advice)
    found = f"{url} gives no whole reply within {STEP_S:g} s ({reason})"
    return fail("collector", found, "look at the collector, and at FASTTRACE_COLLECTOR_URL: does it take HTTP there?")


def _judge(config: Config, url: str, reply: Reply) -> Check:
    status = reply.status
    outcome = judge(status, reply.headers, reply.body, NOTHING.span_count)
    if outcome.action == "accepted":
        return ok("collector", f"{url} takes batches (answered {status})")
    found = f"{url} answered {status} to an empty batch"
    if 200 <= status < 300:
        return fail("collector", f"{found}, but not as a collector does: {_likeness(reply)}", NO_COLLECTOR)
    if status in (401, 403):
        what = "it refuses the key in FASTTRACE_API_KEY" if config.api_key else "it wants a key"
        return fail("collector", f"{found}: {what}", "set FASTTRACE_API_KEY to a key of this collector")
    if status == 407:
        return fail("collector", f"{found}: a proxy before it wants to know who asks", BY_PROXY)
    if status in (404, 405):
        return fail("collector", f"{found}: nothing takes batches there", "correct the path in FASTTRACE_COLLECTOR_URL")
    if 300 <= status < 400:
        to = plain(_header(reply, b"location") or "elsewhere", 200)
        return fail("collector", f"{found}: it leads to {to}, which is not followed", "set FASTTRACE_COLLECTOR_URL")
    return _judge_rest(found, status, outcome)


def _judge_rest(found: str, status: int, outcome: Outcome) -> Check:
    if status in LATER:
        return warn("collector", f"{found}: not now", "wait; the spool keeps the spans until the collector takes them")
    if status >= 500:
        return fail("collector", f"{found}: it has a fault; the spool keeps the spans", "look at the collector's log")
    if outcome.action == "pause":
        return fail("collector", f"{found}: the spool keeps the spans", outcome.advice or NO_COLLECTOR)
    advice = "look at the collector's log: does it only refuse that the batch is empty?"
    return warn("collector", f"{found}: it can be reached, but whether it takes spans is open", advice)


def _likeness(reply: Reply) -> str:
    """What the body of a reply looks like."""
    kind = plain(_header(reply, b"content-type") or "", 60)
    start = reply.body.lstrip()[:1]
    if start == b"<" or "html" in kind:
        title = re.search(rb"<title[^>]*>([^<]*)", reply.body, re.IGNORECASE)
        named = plain(title[1].decode(errors="replace").strip(), 60) if title else ""
        return f"it looks like a web page{f', {named!r}' if named else ''}"
    beginning = plain(reply.body[:60].decode(errors="replace"), 60)
    return f"it says {beginning!r}{f' ({kind})' if kind else ''}"


def _skew(reply: Reply, began_s: float, ended_s: float) -> Iterator[Check]:
    """By the reply's Date, which tells whole seconds: what these and the way there and back explain is no skew."""
    skew_s = skew_of(_header(reply, b"date"), began_s, ended_s)
    if skew_s is None:
        return
    found = f"{abs(skew_s):,.0f} s {'behind' if skew_s > 0 else 'ahead of'} the collector's"
    advice = "have the clocks of both machines set by NTP: spans are dated by this one"
    if abs(skew_s) > SKEW_FAIL_S:
        yield fail("skew", f"this clock is {found}", advice)
    elif abs(skew_s) > SKEW_WARN_S:
        yield warn("skew", f"this clock is {found}", advice)
    else:
        yield ok("skew", "this clock agrees with the collector's")


def skew_of(date: str | None, began_s: float, ended_s: float) -> float | None:
    """Seconds that the collector's clock is ahead at least; None for a date that is none."""
    from email.utils import parsedate_to_datetime

    try:
        theirs_s = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError, OSError, IndexError):
        return None
    if theirs_s > ended_s:
        return theirs_s - ended_s
    return min(theirs_s + 1.0 - began_s, 0.0)


def _header(reply: Reply, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in reply.headers if key.lower() == name), None)


def _proxies(config: Config, environ: Mapping[str, str], proxy: Proxy | None) -> Iterator[Check]:
    named = [name for name in (*PROXY_VARIABLES, *map(str.upper, PROXY_VARIABLES)) if environ.get(name)]
    if proxy is not None:
        yield ok("proxy", f"requests go through {plain(proxy.url)} (FASTTRACE_TRUST_ENV=true)")
    elif named and config.trust_env:
        yield ok("proxy", f"{', '.join(named)}: not for this collector")
    elif named:
        yield ok("proxy", f"{', '.join(named)}: not followed; FASTTRACE_TRUST_ENV=true has them followed")
