"""The way to a collector as the environment tells it: which proxy, which authorities."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from collector import Collector
from fasttrace.exporters.base import ACCEPTED, OwnTime
from fasttrace.exporters.environment import UnusableEnvironment, proxy_for, tls_context
from fasttrace.exporters.http import HttpExporter

if TYPE_CHECKING:
    from collections.abc import Iterator

HTTPS, HTTP = "https://collector.example.com/api/ingest", "http://collector.example.com:8080/api/ingest"
CERTIFICATE = str(Path(__file__).parent / "self_signed.pem")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def exporter(request: pytest.FixtureRequest) -> Iterator[HttpExporter]:
    opened = HttpExporter(request.param, patience=OwnTime(), version="1.2.3", trust_env=True)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "variables, url, proxy",
    [
        ({}, HTTPS, None),
        ({"HTTPS_PROXY": "http://p:3128"}, HTTPS, "http://p:3128"),
        ({"HTTPS_PROXY": "http://p:3128"}, HTTP, None),
        ({"HTTP_PROXY": "p:3128"}, HTTP, "http://p:3128"),
        ({"ALL_PROXY": "http://all"}, HTTPS, "http://all:80"),
        ({"ALL_PROXY": "http://all", "https_proxy": "http://[::1]:1"}, HTTPS, "http://[::1]:1"),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "other.org,.example.com"}, HTTPS, None),
        ({"HTTP_PROXY": "http://p:3128", "NO_PROXY": "collector.example.com:8080"}, HTTP, None),
        ({"HTTP_PROXY": "http://p:3128", "NO_PROXY": "example.org"}, HTTP, "http://p:3128"),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "*"}, HTTPS, None),
    ],
)
def test_a_proxy_is_the_one_that_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(url)
    assert (found and found.url) == proxy


def test_a_proxys_password_is_taken_out_of_its_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://us%40er:p%3Ass@p:3128")
    proxy = proxy_for(HTTPS)
    assert proxy is not None
    assert (proxy.url, proxy.auth) == ("http://p:3128", (b"us@er", b"p:ss"))
    assert "ss" not in repr(proxy)


@pytest.mark.parametrize(
    "text", ["socks5://user:s3cret@p:1", "https://user:s3cret@p", "http://user:s3cret@p:x", "http://"]
)
@pytest.mark.parametrize("exporter", [HTTPS], indirect=True)
def test_a_proxy_that_cannot_be_used_pauses_and_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, exporter: HttpExporter, make_batch: Any, text: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", text)
    outcome = exporter.export(make_batch())
    assert outcome.action == "pause"
    assert "HTTPS_PROXY" in outcome.advice
    assert "s3cret" not in repr(outcome)


def test_a_proxy_is_used_where_the_environment_is_trusted(
    monkeypatch: pytest.MonkeyPatch, collector: Collector, make_batch: Any
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://user:s3cret@127.0.0.1:{collector.port}")
    exporter = HttpExporter(HTTP, patience=OwnTime(), version="1.2.3", trust_env=True)
    assert exporter.export(make_batch()) == ACCEPTED
    exporter.close()
    (received,) = collector.batches
    assert received.path == HTTP, "as one asks a proxy"
    assert received.headers["host"] == "collector.example.com:8080"
    assert received.headers["proxy-authorization"].startswith("Basic ")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_authorities_of_the_environment_are_the_only_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.setenv(variable, CERTIFICATE if variable == "SSL_CERT_FILE" else str(tmp_path))
    context = tls_context()
    assert len(context.get_ca_certs()) == (variable == "SSL_CERT_FILE")
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_without_them_there_are_those_of_httpx() -> None:
    context = tls_context()
    assert len(context.get_ca_certs()) > 50
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_authorities_that_are_not_there_are_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_batch: Any, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "missing"))
    with pytest.raises(UnusableEnvironment, match=f"{variable}=.*missing"):
        tls_context()
    exporter = HttpExporter(HTTPS, patience=OwnTime(), version="1.2.3")
    outcome = exporter.export(make_batch())
    assert (outcome.action, variable in outcome.advice) == ("pause", True)
