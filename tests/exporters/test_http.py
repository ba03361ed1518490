"""One attempt at a collector, over real sockets: what is sent, and what each kind of reply means."""

from __future__ import annotations

import email.utils
import json
import os
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import Collector, Drip, Raw, Reply, Reset, Silent, named_errors
from fasttrace.exporters.base import ACCEPTED, OwnTime, RejectedLine
from fasttrace.exporters.http import REPLY_MAX_BYTES, HttpExporter, judge, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = 1_800_000_000.0


@pytest.fixture
def open_exporter() -> Iterator[Callable[..., HttpExporter]]:
    opened: list[HttpExporter] = []

    def make(url: str, **options: Any) -> HttpExporter:
        opened.append(HttpExporter(url, patience=OwnTime(), version="1.2.3", **options))
        return opened[-1]

    yield make
    for exporter in opened:
        exporter.close()


def test_a_batch_is_posted_with_its_headers(collector: Collector, open_exporter: Any, make_batch: Any) -> None:
    batch = make_batch(3, first=40)
    exporter = open_exporter(collector.url, api_key="k3y", tenant_id="acme", dropped=lambda: 7)
    assert exporter.export(batch) == ACCEPTED
    (received,) = collector.batches
    assert received.path == "/api/ingest"
    assert received.body == batch.body
    assert received.lines == batch.lines()
    assert received.headers == {
        "host": f"127.0.0.1:{collector.port}",
        "content-type": "application/x-ndjson",
        "content-encoding": "zstd",
        "content-length": str(len(batch.body)),
        "accept-encoding": "identity",
        "authorization": "Bearer k3y",
        "user-agent": "fasttrace/1.2.3",
        "x-tenant-id": "acme",
        "x-batch-id": f"{'ab' * 16}:40:3",
        "x-span-count": "3",
        "x-dropped-spans": "7",
    }


@pytest.mark.parametrize("encoding", ["gzip", "none"])
def test_other_encodings_say_so(collector: Collector, open_exporter: Any, make_batch: Any, encoding: str) -> None:
    batch = make_batch(encoding=encoding)
    assert open_exporter(collector.url).export(batch) == ACCEPTED
    (received,) = collector.batches
    assert received.headers.get("content-encoding", "none") == encoding
    assert received.lines == batch.lines()
    assert "authorization" not in received.headers and "x-tenant-id" not in received.headers


def test_one_connection_serves_many_batches(collector: Collector, open_exporter: Any, make_batch: Any) -> None:
    exporter = open_exporter(collector.url)
    assert [exporter.export(make_batch(1, first=n)) for n in range(5)] == [ACCEPTED] * 5
    assert (len(collector.batches), collector.connections) == (5, 1)


def test_a_connection_that_the_collector_closed_is_opened_anew(
    collector: Collector, open_exporter: Any, make_batch: Any
) -> None:
    exporter = open_exporter(collector.url)
    collector.script = [Reply(headers=(("Connection", "close"),))]
    assert exporter.export(make_batch()) == ACCEPTED
    assert exporter.export(make_batch()) == ACCEPTED


# ---- replies


@pytest.mark.parametrize(
    "status, action",
    [(204, "accepted"), (200, "retry"), (202, "retry"), (400, "bisect"), (422, "bisect"), (413, "halve")]
    + [(status, "pause") for status in (301, 307, 401, 403, 404, 405, 407, 410)]
    + [(status, "retry") for status in (408, 429, 500, 502, 503, 504, 599)],
)
def test_a_status_asks_for_an_action(
    collector: Collector, open_exporter: Any, make_batch: Any, status: int, action: str
) -> None:
    collector.script = [Reply(status, b"")]
    outcome = open_exporter(collector.url).export(make_batch())
    assert outcome.action == action
    reasons = {"accepted": "", **({"retry": "malformed reply"} if status < 300 else {})}
    assert outcome.reason == reasons.get(action, f"http {status}")


@pytest.mark.parametrize("status, variable", [(401, "API_KEY"), (403, "API_KEY"), (404, "COLLECTOR_URL"), (405, "URL")])
def test_advice_names_the_variable(status: int, variable: str) -> None:
    assert f"{variable}" in judge(status, [], b"", 1).advice


def test_rejected_lines_are_named(collector: Collector, open_exporter: Any, make_batch: Any) -> None:
    collector.script = [named_errors([(3, "no model"), (1, "bad id")])]
    outcome = open_exporter(collector.url).export(make_batch(3))
    assert outcome.action == "accepted"
    assert outcome.rejected == (RejectedLine(1, "bad id"), RejectedLine(3, "no model"))


def reply(**members: Any) -> bytes:
    return json.dumps(members).encode()


def test_lines_that_are_not_of_the_batch_are_passed_over() -> None:
    errors = [{"line": line, "error": "bad"} for line in (2, 2, 9, 0)]
    outcome = judge(200, [], reply(accepted=2, errors=errors), 3)
    assert (outcome.action, outcome.rejected, outcome.unnamed) == ("accepted", (RejectedLine(2, "bad"),), 0)


@pytest.mark.parametrize(
    "members, unnamed",
    [({"accepted": 0, "rejected": 3}, 3), ({"accepted": 2, "rejected": 1}, 1), ({"accepted": 0, "rejected": 2}, 2)],
)
def test_rejected_lines_without_a_name_are_not_taken_for_sent(members: dict[str, int], unnamed: int) -> None:
    outcome = judge(200, [], reply(**members), 3)
    assert (outcome.action, outcome.unnamed) == ("accepted", unnamed)


def test_a_collector_that_had_the_spans_before_accepts_fewer() -> None:
    none, one = judge(200, [], reply(accepted=0, rejected=0), 3), judge(200, [], reply(accepted=1, rejected=1), 3)
    assert (none.action, none.unnamed) == ("accepted", 0)
    assert (one.action, one.unnamed) == ("accepted", 1)


@pytest.mark.parametrize(
    "members",
    [{"accepted": -1}, {"accepted": "3"}, {"accepted": 3, "rejected": 1}, {"rejected": 4}, {"rejected": -1}]
    + [{"accepted": 3, "rejected": 0, "errors": [{"line": 1}]}, {"accepted": True}, {"accepted": 4, "rejected": -1}]
    + [{}, {"status": "ok"}, {"rejected": 0}, {"errors": []}, {"accepted": None}, {"accepted": 3.0}],
)
def test_a_reply_that_does_not_add_up_is_not_believed(members: dict[str, Any]) -> None:
    assert judge(200, [], reply(**members), 3).action == "retry"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'"ok"', b"{", b"\xff\xfe", b"1", b"", b" \n", b"[" * 60_000])
def test_a_200_that_is_no_collectors_is_not_believed(body: bytes) -> None:
    for status in (200, 201, 202):
        outcome = judge(status, [], body, 3)
        assert (outcome.action, "FASTTRACE_COLLECTOR_URL" in outcome.advice) == ("retry", True)
    assert judge(204, [], body, 3) == ACCEPTED


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=9)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=9)


@settings(deadline=None, max_examples=50)
@given(JSON)
def test_no_json_reply_breaks_the_reader(errors: Any) -> None:
    shapes: list[Any] = [{"errors": errors}, {"rejected": errors}, {"errors": [errors, {"line": errors}]}]
    for body in (errors, {"accepted": errors}, *shapes, *({"accepted": 0, **shape} for shape in shapes)):
        assert judge(200, [], json.dumps(body).encode(), 5).action in ("accepted", "retry")


@pytest.mark.parametrize(
    "action",
    [Raw(b"\x00\xff not http\r\n\r\n"), Raw(b""), Reset(), Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")],
)
def test_a_broken_reply_is_tried_again(collector: Collector, open_exporter: Any, make_batch: Any, action: Any) -> None:
    collector.script = [action]
    exporter = open_exporter(collector.url)
    assert exporter.export(make_batch()).action == "retry"
    assert exporter.export(make_batch()) == ACCEPTED


def test_a_reply_is_read_only_so_far(collector: Collector, open_exporter: Any, make_batch: Any) -> None:
    said = b'{"accepted":3}'
    collector.script = [Reply(200, said.ljust(REPLY_MAX_BYTES + 1)), Reply(200, said.ljust(REPLY_MAX_BYTES))]
    exporter = open_exporter(collector.url)
    assert exporter.export(make_batch()).action == "retry"
    assert exporter.export(make_batch()) == ACCEPTED


def test_a_dripping_reply_ends_at_the_total_deadline(collector: Collector, open_exporter: Any, make_batch: Any) -> None:
    collector.script = [Drip(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n" + b" " * 400, 0.05)]
    outcome = open_exporter(collector.url, timeout_s=0.4).export(make_batch())
    assert (outcome.action, outcome.reason) == ("retry", "ReadTimeout: no time left")


def test_a_collector_that_never_answers_ends_at_the_deadline(
    collector: Collector, open_exporter: Any, make_batch: Any
) -> None:
    collector.script = [Silent()]
    assert open_exporter(collector.url, timeout_s=0.2).export(make_batch()).reason == "ReadTimeout: no time left"


def test_nobody_listening_is_tried_again(open_exporter: Any, make_batch: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        outcome = open_exporter(f"http://127.0.0.1:{unused.getsockname()[1]}/").export(make_batch())
    assert outcome.action == "retry"
    assert outcome.reason.startswith("ConnectError")


def test_a_name_that_does_not_resolve_is_tried_again(open_exporter: Any, make_batch: Any) -> None:
    assert open_exporter("http://collector.invalid/").export(make_batch()).action == "retry"


def test_a_connection_whose_descriptor_the_application_closed_is_opened_anew(
    collector: Collector, open_exporter: Any, make_batch: Any
) -> None:
    exporter = open_exporter(collector.url)
    assert exporter.export(make_batch()) == ACCEPTED
    fd = exporter._backend._newest._sock.fileno()
    os.close(fd)
    reads, writes = os.pipe()  # one end has the number now
    os.set_blocking(reads, False)
    assert fd in (reads, writes)
    assert exporter.export(make_batch()) == ACCEPTED
    exporter.close()
    os.write(writes, b"x")
    assert os.read(reads, 9) == b"x", "nobody wrote into it, read from it or closed it"
    for end in (reads, writes):
        os.close(end)


# ---- encodings that a collector cannot read


def test_a_collector_that_cannot_read_zstd_gets_gzip_and_then_plain_lines(
    collector: Collector, open_exporter: Any, make_batch: Any
) -> None:
    collector.script = [Reply(415), Reply(415)]
    exporter, batch = open_exporter(collector.url), make_batch(3)
    assert [exporter.export(batch).action for _ in range(3)] == ["recode", "recode", "accepted"]
    assert exporter.export(make_batch(3, encoding="gzip")) == ACCEPTED
    sent = [received.headers.get("content-encoding", "none") for received in collector.batches]
    assert sent == ["zstd", "gzip", "none", "none"], "what it refused once is not tried again"
    assert {received.headers["x-batch-id"] for received in collector.batches} == {batch.batch_id}
    assert all(received.lines == batch.lines() for received in collector.batches)
    assert exporter.encoding == "none"


def test_a_collector_that_refuses_plain_lines_too_is_no_collector(
    collector: Collector, open_exporter: Any, make_batch: Any
) -> None:
    collector.rule = lambda lines: Reply(415)
    exporter = open_exporter(collector.url)
    assert [exporter.export(make_batch()).action for _ in range(4)] == ["recode", "recode", "pause", "pause"]


def test_after_a_failure_the_connection_is_a_new_one(collector: Collector, open_exporter: Any, make_batch: Any) -> None:
    collector.script = [Reply(503), Reply(200), Reply(200)]
    exporter = open_exporter(collector.url)
    assert [exporter.export(make_batch()).action for _ in range(3)] == ["retry", "accepted", "accepted"]
    assert collector.connections == 2


# ---- where nothing is sent


def test_redirects_are_not_followed(collector: Collector, open_exporter: Any, make_batch: Any) -> None:
    with Collector() as elsewhere:
        collector.script = [Reply(307, b"", (("Location", elsewhere.url),))]
        assert open_exporter(collector.url, api_key="k3y").export(make_batch()).action == "pause"
        assert elsewhere.batches == []


def test_proxies_of_the_environment_are_not_used(
    collector: Collector, open_exporter: Any, make_batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Collector() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert open_exporter(collector.url).export(make_batch()) == ACCEPTED
        assert proxy.batches == []


def test_an_unknown_certificate_is_refused_before_anything_is_sent(open_exporter: Any, make_batch: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).parent / "self_signed.pem")
    failures: list[OSError] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError as error:
            failures.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    outcome = open_exporter(f"https://127.0.0.1:{listener.getsockname()[1]}/").export(make_batch())
    thread.join()
    listener.close()
    assert outcome.action == "retry"
    assert "certificate verify failed" in outcome.reason.lower()
    assert failures


# ---- Retry-After


@pytest.mark.parametrize(
    "text, delay_s",
    [("0", 0), ("7", 7), ("2.5", 2.5), ("-3", 0), ("301", 300), ("1e20", 300), ("9" * 400, 300), ("inf", 300)]
    + [("nan", None), ("", None), ("abc", None), ("Wed, 99 Foo 2020", None)],
)
def test_retry_after_in_seconds(text: str, delay_s: float | None) -> None:
    assert parse_retry_after(text, NOW) == delay_s


@pytest.mark.parametrize("ahead_s, delay_s", [(30, 30), (-30, 0), (4000, 300)])
def test_retry_after_as_a_date(ahead_s: int, delay_s: float) -> None:
    assert parse_retry_after(email.utils.formatdate(NOW + ahead_s, usegmt=True), NOW) == delay_s


@given(st.text())
def test_retry_after_is_clamped_whatever_it_says(text: str) -> None:
    delay_s = parse_retry_after(text, NOW)
    assert delay_s is None or 0 <= delay_s <= 300


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_comes_with_the_outcome(
    collector: Collector, open_exporter: Any, make_batch: Any, status: int
) -> None:
    collector.script = [Reply(status, b"", (("Retry-After", "12"),)), Reply(status, b"")]
    exporter = open_exporter(collector.url)
    assert exporter.export(make_batch()).retry_after_s == 12.0
    assert exporter.export(make_batch()).retry_after_s is None


@pytest.mark.parametrize("skew_s", [-86_400, 0, 7 * 86_400])
def test_a_date_is_read_by_the_clock_of_who_wrote_it(skew_s: float) -> None:
    def headers(said_at: str) -> list[tuple[bytes, bytes]]:
        until = email.utils.formatdate(NOW + skew_s + 40, usegmt=True)
        return [(b"retry-after", until.encode()), (b"Date", said_at.encode())]

    now = email.utils.formatdate(NOW + skew_s, usegmt=True)
    for said_at in (now, now.removesuffix(" GMT")):
        assert judge(503, headers(said_at), b"", 1).retry_after_s == 40
    assert judge(503, headers("no date"), b"", 1).retry_after_s in (0, 300)
