"""The package google-generativeai over loopback HTTP (REST) and loopback gRPC, on both cores."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import threading
import warnings
from concurrent import futures
from typing import Any

import pytest

from fasttrace.core._api import CURRENT, Price
from fasttrace.instrumentation import google_legacy as instrumentor
from fasttrace.instrumentation.registry import Instrumentation

# Its generation of gRPC and protocol buffers warns about the interpreter and of its own end.
pytestmark = pytest.mark.filterwarnings("ignore")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    genai = pytest.importorskip("google.generativeai", reason="google-generativeai is not installed")
    glm = pytest.importorskip("google.ai.generativelanguage")
    grpc = pytest.importorskip("grpc")
    transports = pytest.importorskip(f"{instrumentor.SERVICE}.transports")
    exceptions = pytest.importorskip("google.api_core.exceptions")

MODEL = "models/gemini-test-flash"
SERVICE = "google.ai.generativelanguage.v1beta.GenerativeService"
WHOLE = {"status": "success", "usage_source": "provider", "input_tokens": 100, "output_tokens": 20}
PARTIAL = {"status": "incomplete", "stream": True, "usage_source": "partial", "input_tokens": 100}
KINDS = ("rest", "grpc", "async")


def reply(*parts: Any, finish: str | None = "STOP", **changes: Any) -> dict[str, Any]:
    sent = [{"text": part} if isinstance(part, str) else part for part in parts or ("Hello!",)]
    ended = {} if finish is None else {"finish_reason": finish}
    return {
        "candidates": [{"content": {"parts": sent, "role": "model"}, **ended}],
        "usage_metadata": {"prompt_token_count": 100, "candidates_token_count": 20, "total_token_count": 120},
        "model_version": "gemini-test-flash-001",
        **changes,
    }


def chunks(*texts: str) -> list[dict[str, Any]]:
    *before, last = texts or ("Hel", "lo", "!")
    return [*(reply(text, finish=None, usage_metadata={"prompt_token_count": 100}) for text in before), reply(last)]


def function_call(name: str) -> dict[str, Any]:
    return {"function_call": {"name": name, "args": {"city": "Oslo"}}}


class ScriptedService:
    """A gRPC server on the loopback interface that says what it was told, in order: messages, failures, Events."""

    def __init__(self) -> None:
        self.script: list[list[Any]] = []
        self.models: list[str] = []
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        kinds = {
            "GenerateContent": grpc.unary_unary_rpc_method_handler(self._answer, **self._codec()),
            "StreamGenerateContent": grpc.unary_stream_rpc_method_handler(self._stream, **self._codec()),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, kinds),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def _codec(self) -> dict[str, Any]:
        return {
            "request_deserializer": glm.GenerateContentRequest.deserialize,
            "response_serializer": glm.GenerateContentResponse.serialize,
        }

    def _stream(self, request: Any, context: Any) -> Any:
        self.models.append(request.model)
        for piece in self.script.pop(0):
            if isinstance(piece, threading.Event):
                piece.wait(20)
            elif isinstance(piece, grpc.StatusCode):
                context.abort(piece, "no, because AIzaSyA1234567890abcdefghijklmnopqrstuvw is wrong")
            else:
                yield glm.GenerateContentResponse(piece)

    def _answer(self, request: Any, context: Any) -> Any:
        return next(self._stream(request, context))


@pytest.fixture
def service() -> Any:
    made = ScriptedService()
    yield made
    made.server.stop(None).wait(5)


@pytest.fixture
def gate() -> Any:
    made = threading.Event()
    yield made
    made.set()


def instrumentation_of(recording: Any) -> Instrumentation:
    def method(original: Any, spec: Any) -> Any:
        return recording.core.method(original, spec, recording.recorder)

    found = functools.partial(instrumentor.patches, method, recording.core.switch)
    return Instrumentation("google.generativeai", found)


@pytest.fixture
def patched(recording: Any) -> Any:
    instrumentation = instrumentation_of(recording)
    instrumentation.apply()
    recording.recorder.prices.put("gcp.gemini", "gemini-test-flash-001", Price(input=3, output=15))
    yield recording
    instrumentation.undo()


def grpc_model(service: ScriptedService, **options: Any) -> Any:
    host = f"127.0.0.1:{service.port}"
    transport = transports.GenerativeServiceGrpcTransport(channel=grpc.insecure_channel(host), host=host)
    made = genai.GenerativeModel("gemini-test-flash", **options)
    made._client = glm.GenerativeServiceClient(transport=transport)
    return made


def rest_model(provider: Any, **options: Any) -> Any:
    endpoint = {"api_endpoint": f"http://127.0.0.1:{provider.port}"}
    genai.configure(api_key="k", transport="rest", client_options=endpoint)
    return genai.GenerativeModel("gemini-test-flash", **options)


def call(kind: str, provider: Any, service: ScriptedService, pieces: list[Any], **options: Any) -> Any:
    """What `generate_content` gives; a stream is read to its end, as a list of its chunks."""
    streams = options.get("stream", False)
    how = {"generation_config": options.pop("of_the_model", None)}
    if kind == "rest":
        provider.answer(pieces if streams else pieces[0])
        found = rest_model(provider, **how).generate_content("Hello", **options)
        return list(found) if streams else found
    service.script.append(pieces)
    if kind == "grpc":
        found = grpc_model(service, **how).generate_content("Hello", **options)
        return list(found) if streams else found

    async def main() -> Any:
        host = f"127.0.0.1:{service.port}"
        async with grpc.aio.insecure_channel(host) as channel:
            transport = transports.GenerativeServiceGrpcAsyncIOTransport(channel=channel, host=host)
            made = genai.GenerativeModel("gemini-test-flash", **how)
            made._async_client = glm.GenerativeServiceAsyncClient(transport=transport)
            found = await made.generate_content_async("Hello", **options)
            return [piece async for piece in found] if streams else found

    return asyncio.run(main())


def expect(span: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert {name: span.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_is_one_exact_span(provider: Any, service: Any, patched: Any, kind: str) -> None:
    config = {"temperature": 0.5, "max_output_tokens": 50}
    answer = call(kind, provider, service, [reply()], generation_config={"temperature": 0.5}, of_the_model=config)
    assert answer.text == "Hello!"
    span = patched.span()
    expect(span, WHOLE | {"kind": "llm", "operation": "generate_content", "provider": "gcp.gemini"})
    assert (span["model_id"], span["request_model"]) == ("gemini-test-flash-001", MODEL)
    assert (span["server_address"], span["finish_reasons"]) == ("127.0.0.1", ["STOP"])
    assert span["server_port"] == (provider if kind == "rest" else service).port
    assert span["request_params"] == config
    assert span["cost_usd"] == (100 * 3 + 20 * 15) / 10**12
    assert not {"stream", "retries", "tool_calls", "input", "output"} & span.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_one_exact_span(provider: Any, service: Any, patched: Any, kind: str) -> None:
    found = call(kind, provider, service, chunks(), stream=True)
    assert "".join(piece.text for piece in found) == "Hello!"
    span = patched.span()
    expect(span, WHOLE | {"stream": True, "chunks": 3, "finish_reasons": ["STOP"], "model_id": "gemini-test-flash-001"})
    assert 0 < span["first_chunk_ms"] <= span["first_token_ms"] <= span["first_text_ms"] <= span["duration_ms"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_never_sent_is_not_zero(provider: Any, service: Any, patched: Any, kind: str) -> None:
    call(kind, provider, service, [reply(usage_metadata=None, finish=None, model_version="")])
    span = patched.span()
    assert (span["status"], span["model_id"]) == ("success", MODEL)
    assert not {"input_tokens", "output_tokens", "usage_source", "finish_reasons", "request_params"} & span.keys()


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
def test_functions_are_named(provider: Any, service: Any, patched: Any, streams: bool) -> None:
    answer = reply(function_call("get_weather"), function_call("get_time"), usage_metadata={"prompt_token_count": 9})
    call("grpc", provider, service, [answer], stream=streams)
    span = patched.span()
    assert span["tool_calls"] == ["get_weather", "get_time"]
    assert (span["input_tokens"], "output_tokens" in span) == (9, False)


def test_every_message_of_a_chat_is_one_span(provider: Any, service: Any, patched: Any) -> None:
    chat = grpc_model(service).start_chat()
    for n in range(2):
        service.script.append([reply(f"Hi {n}")])
        assert chat.send_message("Hello").text == f"Hi {n}"
    service.script.append(chunks())
    assert "".join(piece.text for piece in chat.send_message("Hello", stream=True)) == "Hello!"
    assert [span["status"] for span in patched.spans()] == ["success"] * 3
    assert service.models == [MODEL] * 3


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("kind", ["grpc", "async"])
def test_a_refusal_is_the_users_exception_and_one_span(
    provider: Any, service: Any, patched: Any, kind: str, streams: bool
) -> None:
    with pytest.raises(exceptions.ResourceExhausted):
        call(kind, provider, service, [grpc.StatusCode.RESOURCE_EXHAUSTED], stream=streams)
    span = patched.span()
    assert (span["status"], span["error_type"]) == ("error", "google.api_core.exceptions.ResourceExhausted")
    assert (span["http_status"], span["error_code"]) == (429, "RESOURCE_EXHAUSTED")
    assert "AIzaSy" not in span["error_message"]
    assert "retries" not in span


def test_a_refusal_over_http_is_the_same(provider: Any, patched: Any) -> None:
    provider.answer({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "no"}}, 400)
    with pytest.raises(exceptions.BadRequest):
        rest_model(provider).generate_content("Hello")
    span = patched.span()
    assert (span["status"], span["http_status"]) == ("error", 400)
    assert span["error_code"] in ("INVALID_ARGUMENT", "400")


def test_a_deadline_is_a_timeout(provider: Any, service: Any, patched: Any, gate: Any) -> None:
    with pytest.raises(exceptions.DeadlineExceeded):
        call("grpc", provider, service, [gate, reply()], request_options={"timeout": 0.05})
    span = patched.span()
    assert (span["status"], span["http_status"]) == ("timeout", 504)


@pytest.mark.parametrize("kind", ["grpc", "async"])
def test_retries_are_counted_in_one_span(provider: Any, service: Any, patched: Any, kind: str) -> None:
    from google.api_core.retry import AsyncRetry, Retry, if_exception_type

    how = AsyncRetry if kind == "async" else Retry
    retry = how(if_exception_type(exceptions.ServiceUnavailable), initial=0.001, maximum=0.001)
    service.script += [[grpc.StatusCode.UNAVAILABLE]] * 2
    call(kind, provider, service, [reply()], request_options={"retry": retry})
    assert len(service.models) == 3
    expect(patched.span(), WHOLE | {"retries": 2})


def test_a_failure_inside_a_stream_ends_it(provider: Any, service: Any, patched: Any) -> None:
    service.script.append([*chunks()[:2], grpc.StatusCode.INTERNAL])
    stream = grpc_model(service).generate_content("Hello", stream=True)
    with pytest.raises(exceptions.InternalServerError):
        list(stream)
    span = patched.span()
    assert (span["status"], span["error_code"], span["usage_source"]) == ("error", "INTERNAL", "partial")
    assert (span["chunks"], span["input_tokens"]) == (2, 100)


def test_a_stream_left_early_is_one_incomplete_span(service: Any, patched: Any, gate: Any) -> None:
    first, second, last = chunks()
    service.script.append([first, second, gate, last])
    for _ in grpc_model(service).generate_content("Hello", stream=True):
        break
    gc.collect()
    expect(patched.span(), PARTIAL)
    assert CURRENT.get() is None


def test_the_generated_client_gives_what_it_gave(service: Any, patched: Any) -> None:
    """Others call it directly, with its request in any of three forms."""
    client = grpc_model(service)._client
    contents = [{"parts": [{"text": "Hello"}], "role": "user"}]
    forms = (
        ((glm.GenerateContentRequest(model=MODEL, contents=contents),), {}),
        ((), {"request": {"model": MODEL, "contents": contents}}),
        ((), {"model": MODEL, "contents": contents}),
    )
    for args, options in forms:
        service.script.append([reply()])
        assert type(client.generate_content(*args, **options)) is glm.GenerateContentResponse
        assert patched.span()["request_model"] == MODEL
        service.script.append(chunks())
        stream = client.stream_generate_content(*args, **options)
        assert {type(piece) for piece in stream} == {glm.GenerateContentResponse}
        assert stream.code() is grpc.StatusCode.OK
        expect(patched.span(), WHOLE | {"request_model": MODEL})


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("kind", KINDS)
def test_content_is_captured_where_that_is_wanted(
    provider: Any, service: Any, patched: Any, kind: str, streams: bool
) -> None:
    patched.recorder.capture_input = patched.recorder.capture_output = True
    call(kind, provider, service, chunks() if streams else [reply()], stream=streams)
    span = patched.span()
    assert span["input"]["contents"][0]["parts"] == [{"text": "Hello"}]
    (answer,) = span["output"]
    assert (answer["content"]["parts"], answer["finish_reason"]) == ([{"text": "Hello!"}], "STOP")


def test_turned_off_it_is_a_plain_call(provider: Any, service: Any, patched: Any) -> None:
    patched.recorder.active = False
    for kind in KINDS:
        assert call(kind, provider, service, [reply()]).text == "Hello!"
        assert len(call(kind, provider, service, chunks(), stream=True)) == 3
    assert patched.spans() == []


def test_undoing_leaves_every_attribute_as_it_was(recording: Any) -> None:
    import google.api_core.retry.retry_unary as retry_unary

    owners = (glm.GenerativeServiceClient, glm.GenerativeServiceAsyncClient, retry_unary)
    before = [dict(vars(owner)) for owner in owners]

    instrumentation = instrumentation_of(recording)
    instrumentation.apply()
    assert all(vars(owner) != attributes for owner, attributes in zip(owners, before, strict=True))
    stand_in = glm.GenerativeServiceClient.generate_content
    assert inspect.signature(stand_in) == inspect.signature(before[0]["generate_content"])
    instrumentation.undo()
    for owner, attributes in zip(owners, before, strict=True):
        assert vars(owner).keys() == attributes.keys()
        assert all(vars(owner)[name] is value for name, value in attributes.items())
