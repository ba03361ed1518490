"""A program that makes calls with the anthropic SDK while OpenTelemetry traces them, and prints both sides' spans.

Arguments: "with" or "without" fasttrace; which core; a tracer "passed" to the client or "installed" for the process;
the provider's URL; the names of functions below. Prints a line of JSON for each of these.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import sys
from typing import Any

import anthropic
from anthropic_calls import REQUEST, instrumentation_of
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fasttrace.core._api import RingOwner, RingShape

EXPORTER = InMemorySpanExporter()


class Recording:
    """What anthropic_calls needs of a recording: a core, and a recorder on anonymous memory."""

    def __init__(self, backend: str) -> None:
        self.core: Any = importlib.import_module(f"fasttrace.core._{backend}")
        self.recorder = self.core.Recorder(lambda: None)
        self.recorder.active = True
        owner = RingOwner(b"0" * 16, b"0" * 16, os.getpid(), 0, 0)
        self.recorder.ring = self.core.Ring(-1, RingShape(slots=64), owner)

    def spans(self) -> list[Any]:
        batch = self.recorder.ring.read(64, 1 << 20)
        self.recorder.ring.acknowledge(batch.next_ticket)
        return [json.loads(line) for line in batch.encode(self.recorder.prices, "", b"").splitlines()]


def plain(client: Any) -> None:
    client.messages.create(**REQUEST)


def read(client: Any) -> None:
    list(client.messages.create(**REQUEST, stream=True))


def helped(client: Any) -> None:
    with client.messages.stream(**REQUEST) as stream:
        stream.get_final_message()


def broken_off(client: Any) -> None:
    with client.messages.create(**REQUEST, stream=True) as stream:
        next(stream)


def dropped(client: Any) -> None:
    next(client.messages.create(**REQUEST, stream=True))
    assert len(EXPORTER.get_finished_spans()) == 1, "the SDK's span ends with the last reference to its stream"


def unread(client: Any) -> None:
    client.messages.create(**REQUEST, stream=True)
    assert len(EXPORTER.get_finished_spans()) == 1


def raw(client: Any) -> None:
    client.messages.with_raw_response.create(**REQUEST).parse()


def raw_stream(client: Any) -> None:
    with client.messages.with_streaming_response.create(**REQUEST, stream=True) as response:
        list(response.parse())


def refused(client: Any) -> None:
    try:
        client.messages.create(**REQUEST)
    except anthropic.APIStatusError:
        return
    raise AssertionError("not refused")


async def read_async(client: Any) -> None:
    async for _ in await client.messages.create(**REQUEST, stream=True):
        pass


async def broken_off_async(client: Any) -> None:
    async with await client.messages.create(**REQUEST, stream=True) as stream:
        async for _ in stream:
            break


def told(span: Any) -> dict[str, Any]:
    return {
        "name": span.name,
        "scope": span.instrumentation_scope.name,
        "kind": span.kind.name,
        "status": span.status.status_code.name,
        "attributes": dict(span.attributes),
        "events": [event.name for event in span.events],
        "parent": span.parent is not None,
    }


async def call_async(call: Any, options: dict[str, Any]) -> None:
    async with anthropic.AsyncAnthropic(**options) as client:
        await call(client)


def make(call: Any, options: dict[str, Any]) -> None:
    if asyncio.iscoroutinefunction(call):
        asyncio.run(call_async(call, options))
    else:
        with anthropic.Anthropic(**options) as client:
            call(client)
    gc.collect()


def main(which: str, backend: str, where: str, base_url: str, *names: str) -> None:
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    options: dict[str, Any] = {"api_key": "k", "base_url": base_url, "max_retries": 0}
    if where == "installed":
        trace.set_tracer_provider(tracer_provider)
    else:
        options["open_telemetry"] = {"tracer_provider": tracer_provider}
    recording = Recording(backend) if which == "with" else None
    if recording is not None:
        instrumentation_of(recording).apply()
    for name in names:
        make(globals()[name], options)
        theirs = [told(span) for span in EXPORTER.get_finished_spans()]
        EXPORTER.clear()
        print(json.dumps({"theirs": theirs, "ours": [] if recording is None else recording.spans()}))
    found = trace.get_tracer_provider()
    is_theirs = found is tracer_provider if where == "installed" else type(found).__name__ == "ProxyTracerProvider"
    assert is_theirs, "the process's tracer provider is the application's"


if __name__ == "__main__":
    main(*sys.argv[1:])
