"""What every span says about its process."""

from __future__ import annotations

import json
import sys

import pytest

from fasttrace.config import VERSION, Config
from fasttrace.trace.resource import resource_members

SDK = f"fasttrace-python/{VERSION}"


def test_members_stand_in_schema_order_and_those_without_a_value_are_left_out() -> None:
    config = Config(service_name="shop", environment="prod", tenant_id="acme", workflow_id="refunds")
    expected = {"service": "shop", "environment": "prod", "tenant_id": "acme", "workflow_id": "refunds", "sdk": SDK}
    members = resource_members(config, {})
    assert members == json.dumps(expected, separators=(",", ":"))[1:-1].encode()
    assert json.loads(b"{%s}" % resource_members(Config(service_name="shop"), {})) == {"service": "shop", "sdk": SDK}


def test_text_is_escaped() -> None:
    config = Config(service_name='a"b\\c\nd\x7f é \ud800')
    assert json.loads(b"{%s}" % resource_members(config, {}))["service"] == 'a"b\\c\nd\x7f é �'


@pytest.mark.parametrize(
    "argv, environ, service",
    [
        (["/srv/app/worker.py"], {}, "worker"),
        (["/srv/app/worker.py"], {"OTEL_SERVICE_NAME": "billing"}, "billing"),
        (["/srv/shop/__main__.py"], {}, "shop"),
        (["-c"], {}, "unknown_service"),
        (["-m"], {}, "unknown_service"),
        ([""], {}, "unknown_service"),
        ([], {}, "unknown_service"),
    ],
)
def test_a_service_without_a_name_is_called_after_its_script(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], environ: dict[str, str], service: str
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert json.loads(b"{%s}" % resource_members(Config(), environ))["service"] == service
