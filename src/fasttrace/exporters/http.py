"""A collector over HTTP: one attempt at posting one batch, and what its reply means.

The HTTP engine is httpcore, the one inside httpx: without httpx's client around it there is no line in the
application's log for every request, no cookie jar, no password from the environment, no redirect that is followed, and
nobody's httpx instrumentation traces our own traffic. TLS certificates are always verified; against which authorities,
and when a proxy is used, is told in environment.py.

A reply is hostile input: asked for without compression, read raw, capped at 64 KiB. A connection that brought a failure
is not used again: the next attempt looks up the name anew, and may find a machine that is well. A collector that cannot
read an encoding (415) is sent the next simpler one from then on. Exporter thread only.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from fasttrace.exporters.base import ACCEPTED, EncodedBatch, Outcome, RejectedLine
from fasttrace.exporters.compression import compress, decompress, usable_encoding
from fasttrace.exporters.environment import UnusableEnvironment, proxy_for, tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fasttrace.exporters.base import Patience

REPLY_MAX_BYTES = 64 << 10
RETRY_AFTER_MAX_S = 300.0
RETRYABLE = (408, 429)
UNREADABLE = 415
SIMPLER = ("zstd", "gzip", "none")
PROXIES = "HTTP_PROXY and HTTPS_PROXY, which FASTTRACE_TRUST_ENV has followed"
ADVICE = {
    407: f"the proxy refused: see {PROXIES}",
    401: "the collector refused the key: set FASTTRACE_API_KEY",
    403: "the collector refused the key: set FASTTRACE_API_KEY",
}
AUTHORITIES = "SSL_CERT_FILE, which names the authorities that are trusted"
MALFORMED = Outcome("retry", "malformed reply", advice="FASTTRACE_COLLECTOR_URL, where something else may answer")
ADVICE_ELSE = "nothing takes batches at this address: set FASTTRACE_COLLECTOR_URL"


class Reply(NamedTuple):
    """A whole reply, as it came."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class HttpExporter:
    """Posts to one URL. `dropped`: asked before each attempt, how many spans were dropped so far, for the header, where
    `others_lost` is added to them."""

    takes_spool = True

    def __init__(
        self,
        url: str,
        *,
        patience: Patience,
        version: str,
        api_key: str | None = None,
        tenant_id: str | None = None,
        timeout_s: float = 10.0,
        encoding: str = "zstd",
        trust_env: bool = False,
        dropped: Callable[[], int] = int,
    ) -> None:
        self.encoding = encoding
        self._refused_encodings = 0  # so many of SIMPLER, from its start
        self._url = url
        self._api_key = api_key
        self._trust_env = trust_env
        self._headers = _fixed_headers(url, version, api_key, tenant_id)
        self._timeout_s = timeout_s
        self._patience = patience
        self._dropped = dropped
        self.others_lost = 0
        self._pool: Any = None
        self._deadline: Any = None
        self._backend: Any = None

    def prepare(self) -> None:
        """Import the HTTP stack and open the connection pool (no connection yet)."""
        if self._pool is not None:
            return
        import httpcore

        from fasttrace.exporters.connection import Deadline, DeadlineBackend

        self.encoding = usable_encoding(self.encoding)
        self._deadline = Deadline(self._patience)
        self._backend = DeadlineBackend(self._deadline)
        options = {
            "ssl_context": tls_context() if self._url.startswith("https:") else None,
            "max_connections": 1,
            "keepalive_expiry": 30.0,
            "network_backend": self._backend,
        }
        proxy = proxy_for(self._url) if self._trust_env else None
        if proxy is None:
            self._pool = httpcore.ConnectionPool(**options)
        else:
            self._pool = httpcore.HTTPProxy(proxy.url, proxy_auth=proxy.auth, **options)

    def export(self, batch: EncodedBatch) -> Outcome:
        """One POST. Whatever goes wrong on the way to a whole reply is `retry`."""
        try:
            self.prepare()
            batch = self._readable(batch)
            outcome = self._posted(batch)
        except ImportError as error:
            return Outcome("pause", str(error), advice="the HTTP stack is missing: pip install httpx")
        except UnusableEnvironment as error:
            return Outcome("pause", "environment", advice=str(error))
        except Exception as error:
            outcome = _failed(error, self._text_of(error))
        if outcome.action == "retry":
            self._disconnect()
        return outcome

    def ask(self, batch: EncodedBatch) -> Reply:
        """One POST and its whole reply; raises whatever goes wrong on the way."""
        self.prepare()
        self._deadline.start(self._timeout_s)
        with self._pool.stream("POST", self._url, headers=self._headers_of(batch), content=batch.body) as reply:
            return Reply(reply.status, reply.headers, _read_capped(reply))

    def _posted(self, batch: EncodedBatch) -> Outcome:
        reply = self.ask(batch)
        if reply.status == UNREADABLE and batch.encoding != "none":
            return self._simplified(batch)
        return judge(reply.status, reply.headers, reply.body, batch.span_count)

    def _text_of(self, error: Exception) -> str:
        """For log and stats; whatever an exception quotes, the key is not in it."""
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return text.replace(self._api_key, "***") if self._api_key else text

    def _readable(self, batch: EncodedBatch) -> EncodedBatch:
        """The batch under its id, in an encoding that the collector has not refused."""
        if SIMPLER.index(batch.encoding) >= self._refused_encodings:
            return batch
        encoding = SIMPLER[self._refused_encodings]
        try:
            body = decompress(batch.body, batch.encoding)
        except ValueError:  # nobody can read it: let the collector say so
            return batch
        return batch._replace(body=compress(body, encoding), encoding=encoding)

    def _simplified(self, batch: EncodedBatch) -> Outcome:
        self._refused_encodings = max(self._refused_encodings, SIMPLER.index(batch.encoding) + 1)
        self.encoding = SIMPLER[max(SIMPLER.index(self.encoding), self._refused_encodings)]
        return Outcome("recode", f"http {UNREADABLE}")

    def _disconnect(self) -> None:
        if self._pool is not None:
            self._pool.close()

    def _headers_of(self, batch: EncodedBatch) -> list[tuple[bytes, bytes]]:
        headers = [
            *self._headers,
            (b"X-Batch-ID", batch.batch_id.encode()),
            (b"X-Span-Count", str(batch.span_count).encode()),
            (b"Content-Length", str(len(batch.body)).encode()),
        ]
        if batch.encoding != "none":
            headers.append((b"Content-Encoding", batch.encoding.encode()))
        dropped = self._dropped() + self.others_lost
        if dropped:
            headers.append((b"X-Dropped-Spans", str(dropped).encode()))
        return headers

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def abandon(self) -> None:
        if self._backend is not None:
            self._backend.abandon()


def _fixed_headers(url: str, version: str, api_key: str | None, tenant_id: str | None) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"Host", url.split("/", 3)[2].encode()),
        (b"Content-Type", b"application/x-ndjson"),
        (b"Accept-Encoding", b"identity"),
        (b"User-Agent", f"fasttrace/{version}".encode()),
    ]
    if api_key:
        headers.append((b"Authorization", b"Bearer " + api_key.encode()))
    if tenant_id:
        headers.append((b"X-Tenant-ID", tenant_id.encode()))
    return headers


def _read_capped(reply: Any) -> bytes:
    body = b""
    for part in reply.iter_stream():
        body += part
        if len(body) > REPLY_MAX_BYTES:
            raise ValueError(f"a reply of more than {REPLY_MAX_BYTES} bytes")
    return body


def _failed(error: Exception, text: str) -> Outcome:
    """What an attempt without a whole reply asks for. A proxy that opens no way to the collector (CONNECT) speaks for
    itself alone: it may be busy, or it has to be asked otherwise."""
    if type(error).__name__ == "ProxyError":  # httpcore's; its text begins with the status
        is_for_now = str(error)[:1] == "5" or str(error)[:3] in map(str, RETRYABLE)
        return Outcome("retry", text, advice=PROXIES) if is_for_now else Outcome("pause", text, advice=ADVICE[407])
    return Outcome("retry", text, advice=AUTHORITIES if "CERTIFICATE_VERIFY_FAILED" in text else "")


def judge(status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes, count: int) -> Outcome:
    """What a whole reply to a batch of `count` spans asks for."""
    reason = f"http {status}"
    if 200 <= status < 300:
        return ACCEPTED if status == 204 else _accepted(body, count)
    if status in (400, 422):
        return Outcome("bisect", reason)
    if status == 413:
        return Outcome("halve", reason)
    if status in RETRYABLE or status >= 500:
        return Outcome("retry", reason, retry_after_s=_retry_after(headers))
    return Outcome("pause", reason, advice=ADVICE.get(status, ADVICE_ELSE))


def _accepted(body: bytes, count: int) -> Outcome:
    """A reply that does not say how many spans were accepted is not the collector's, whatever else answers 200 there;
    nor is one that tells of more spans than were sent. One that tells of fewer had the others before: a batch may be
    sent again."""
    import json

    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return MALFORMED
    if not isinstance(reply, dict):
        return MALFORMED
    named = _rejected_lines(reply.get("errors"), count)
    rejected, accepted = _number(reply.get("rejected", len(named))), _number(reply.get("accepted"))
    if accepted < 0 or accepted + rejected > count or rejected < len(named):
        return MALFORMED
    return Outcome("accepted", rejected=named, unnamed=rejected - len(named))


def _rejected_lines(errors: object, count: int) -> tuple[RejectedLine, ...]:
    """The lines named in `errors`, each once; entries that name no line of the batch are passed over."""
    named: dict[int, str] = {}
    for entry in errors if isinstance(errors, list) else ():
        line = _number(entry.get("line")) if isinstance(entry, dict) else 0
        if 1 <= line <= count:
            named.setdefault(line, str(entry.get("error", ""))[:1024])
    return tuple(RejectedLine(line, error) for line, error in sorted(named.items()))


def _number(value: object) -> int:
    """-1 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else -1


def _retry_after(headers: Sequence[tuple[bytes, bytes]]) -> float | None:
    """By the clock that the reply itself tells (Date), as its Retry-After was: ours may be another."""
    text = _header(headers, b"retry-after")
    if text is None:
        return None
    now_unix_s = _unix_s(_header(headers, b"date") or "")
    return parse_retry_after(text, time.time() if now_unix_s is None else now_unix_s)


def _header(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> str | None:
    return next((value.decode("latin-1") for name, value in headers if name.lower() == wanted), None)


def parse_retry_after(text: str, now_unix_s: float) -> float | None:
    """Seconds of a Retry-After header, a number or an HTTP date, within 0 to 300; None where it is neither."""
    try:
        delay_s = float(text)
    except ValueError:
        until_unix_s = _unix_s(text)
        if until_unix_s is None:
            return None
        delay_s = until_unix_s - now_unix_s
    if delay_s != delay_s:
        return None
    return min(max(delay_s, 0.0), RETRY_AFTER_MAX_S)


def _unix_s(text: str) -> float | None:
    """The moment of an HTTP date, which is always of GMT, also where it does not say so; None for what is none."""
    from datetime import timezone
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, TypeError, OverflowError, OSError, IndexError):
        return None
