"""The google-genai SDK over loopback HTTP, on both cores: what is read of a call, and whose call it is."""

from __future__ import annotations

import inspect
from typing import Any

import gemini
import pytest
from gemini import MODEL, REQUEST, candidate, function_call, reply, usage

from fasttrace.core._api import Price
from fasttrace.instrumentation import google as instrumentor

# The SDK warns of its own old ways, and of methods that are to go.
pytestmark = pytest.mark.filterwarnings("ignore")
genai = pytest.importorskip("google.genai", reason="the google-genai SDK is not installed")


@pytest.fixture
def patched(recording: Any) -> Any:
    with gemini.instrumented(recording):
        recording.recorder.prices.put("gcp.gemini", f"{MODEL}-001", Price(input=3, cache_read=1, output=15))
        yield recording


@pytest.fixture
def client(provider: Any, patched: Any) -> Any:
    with gemini.client_of(provider) as made:
        yield made


def test_a_call_is_one_exact_span(provider: Any, patched: Any, mode: str) -> None:
    provider.answer(reply())
    config = {"temperature": 0.2, "max_output_tokens": 50}
    answer = gemini.call(provider, mode, "generate_content", **REQUEST, config=config)
    assert type(answer) is genai.types.GenerateContentResponse
    assert answer.text == "Hello!"
    span = patched.span()
    assert (span["kind"], span["operation"], span["name"]) == ("llm", "generate_content", f"generate_content {MODEL}")
    assert (span["provider"], span["server_address"]) == ("gcp.gemini", "127.0.0.1")
    assert span["server_port"] == provider.port
    assert (span["model_id"], span["request_model"]) == (f"{MODEL}-001", MODEL)
    assert (span["input_tokens"], span["output_tokens"], span["usage_source"]) == (100, 20, "provider")
    assert span["cost_usd"] == (100 * 3 + 20 * 15) / 10**12
    assert span["request_params"] == config
    assert (span["finish_reasons"], span["status"]) == (["STOP"], "success")
    assert not {"input", "output", "retries", "stream", "tool_calls", "reasoning_tokens"} & span.keys()
    if gemini.release() >= (1, 10):
        assert span["response_id"] == "resp-1"


def test_what_the_model_thought_and_tools_brought_in_are_counted(provider: Any, client: Any, patched: Any) -> None:
    if gemini.release() < (1, 10):
        pytest.skip(f"google-genai {genai.__version__} leaves thoughts and tool-use tokens out of its replies")
    more = {"thoughtsTokenCount": 7, "toolUsePromptTokenCount": 30, "cachedContentTokenCount": 40}
    provider.answer(reply(usageMetadata=usage(**more)))
    client.models.generate_content(**REQUEST)
    span = patched.span()
    assert (span["input_tokens"], span["output_tokens"]) == (130, 27)
    assert (span["cache_read_tokens"], span["reasoning_tokens"]) == (40, 7)
    assert span["cost_usd"] == (90 * 3 + 40 * 1 + 27 * 15) / 10**12


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        (usage(promptTokenCount=None), (0, 20)),
        (usage(candidatesTokenCount=None), (100, None)),
        ({}, (None, None)),
        (None, (None, None)),
        ({"totalTokenCount": 3}, (None, None)),
    ],
)
def test_input_of_no_tokens_is_left_out_by_the_api(
    provider: Any, client: Any, patched: Any, counts: Any, wanted: Any
) -> None:
    """Where the output was counted the input was, too; where nothing was, nothing is known."""
    provider.answer(reply(usageMetadata=counts))
    client.models.generate_content(**REQUEST)
    span = patched.span()
    assert (span.get("input_tokens"), span.get("output_tokens")) == wanted
    assert ("usage_source" in span) == (wanted != (None, None))


def test_parameters_are_read_from_dictionaries_in_both_spellings_and_from_objects(
    provider: Any, client: Any, patched: Any
) -> None:
    wanted = {"temperature": 0.5, "top_k": 3.0, "seed": 7, "candidate_count": 1}
    both = {"temperature": 0.5, "topK": 3.0, "seed": 7, "candidateCount": 1, "systemInstruction": "Be brief"}
    for config in (wanted, both, genai.types.GenerateContentConfig(**wanted)):
        provider.answer(reply())
        client.models.generate_content(**REQUEST, config=config)
    for span in patched.spans():
        params = {name.replace("K", "_k").replace("C", "_c"): value for name, value in span["request_params"].items()}
        assert params == wanted


def test_how_much_to_think_is_a_parameter(provider: Any, client: Any, patched: Any) -> None:
    if gemini.release() < (1, 10):
        pytest.skip(f"google-genai {genai.__version__} has no thinking budget")
    provider.answer(reply())
    config = {"thinking_config": {"thinking_budget": 512, "include_thoughts": True}, "top_p": 0.5}
    client.models.generate_content(**REQUEST, config=config)
    assert patched.span()["request_params"] == {"thinking_budget": 512, "include_thoughts": True, "top_p": 0.5}


def test_a_call_without_configuration_has_no_parameters(provider: Any, client: Any, patched: Any) -> None:
    provider.answer(reply())
    client.models.generate_content(**REQUEST)
    assert "request_params" not in patched.span()


def test_functions_the_model_asks_for_are_named(provider: Any, client: Any, patched: Any) -> None:
    provider.answer(reply(function_call("get_weather", city="Oslo"), "and", function_call("get_time")))
    client.models.generate_content(**REQUEST)
    assert patched.span()["tool_calls"] == ["get_weather", "get_time"]


def test_every_candidate_has_its_finish_reason(provider: Any, client: Any, patched: Any) -> None:
    ends = ("STOP", "MAX_TOKENS", "SAFETY")
    provider.answer(reply(candidates=[candidate("x", index=n, finishReason=end) for n, end in enumerate(ends)]))
    client.models.generate_content(**REQUEST, config={"candidate_count": 3})
    assert patched.span()["finish_reasons"] == list(ends)


def test_a_blocked_prompt_is_a_call_without_an_answer(provider: Any, client: Any, patched: Any) -> None:
    feedback = {"blockReason": "PROHIBITED_CONTENT"}
    provider.answer(reply(candidates=None, promptFeedback=feedback, usageMetadata=usage(candidatesTokenCount=None)))
    client.models.generate_content(**REQUEST)
    span = patched.span()
    assert (span["status"], span["input_tokens"]) == ("success", 100)
    assert not {"finish_reasons", "output_tokens", "cost_usd"} & span.keys()


@pytest.mark.parametrize(("asked", "told", "priced"), [("flex", "flex", False), ("priority", "standard", True)])
def test_the_tier_is_the_one_that_was_served(
    provider: Any, client: Any, patched: Any, asked: str, told: str, priced: bool
) -> None:
    if gemini.release() < (2, 0):
        pytest.skip(f"google-genai {genai.__version__} has no service tiers")
    provider.answer(reply(), x_gemini_service_tier=told)
    client.models.generate_content(**REQUEST, config={"service_tier": asked})
    span = patched.span()
    assert (span["service_tier"], "cost_usd" in span) == (told, priced)
    assert span["request_params"] == {"service_tier": asked}


@pytest.mark.parametrize(("told", "priced"), [("ON_DEMAND", True), ("ON_DEMAND_FLEX", False)])
def test_vertex_tells_by_what_its_answers_are_paid(provider: Any, patched: Any, told: str, priced: bool) -> None:
    if gemini.release() < (1, 10):
        pytest.skip(f"google-genai {genai.__version__} leaves it out of its replies")
    patched.recorder.prices.put("gcp.vertex_ai", f"{MODEL}-001", Price(input=3, output=15))
    provider.answer(reply(usageMetadata=usage(trafficType=told)))
    gemini.call(provider, "sync", "generate_content", of=gemini.vertex_client_of, **REQUEST)
    span = patched.span()
    assert (span["service_tier"], "cost_usd" in span) == (told, priced)


# ---- raw access ----


def test_a_raw_reply_is_left_to_the_user(provider: Any, patched: Any, mode: str) -> None:
    """Whoever asks for the HTTP response gets it, unparsed: after the call that was billed nothing may fail."""
    if gemini.release() < (1, 30):
        pytest.skip(f"google-genai {genai.__version__} has no raw replies")
    provider.answer(reply(), x_request_id="req-1")
    config = genai.types.GenerateContentConfig(should_return_http_response=True)
    answer = gemini.call(provider, mode, "generate_content", **REQUEST, config=config)
    assert answer.sdk_http_response.headers["x-request-id"] == "req-1"
    assert "usageMetadata" in answer.sdk_http_response.body
    span = patched.span()
    assert (span["status"], span["model_id"]) == ("success", MODEL)
    assert "input_tokens" not in span


# ---- whose calls they are ----


def test_vertex_is_told_by_the_client_where_the_host_tells_nothing(provider: Any, patched: Any, mode: str) -> None:
    provider.answer(reply(usageMetadata=usage(trafficType="ON_DEMAND")))
    gemini.call(provider, mode, "generate_content", of=gemini.vertex_client_of, **REQUEST)
    path, headers, _ = provider.requests[-1]
    assert "/projects/a-project/locations/us-central1/publishers/google/models/" in path
    assert headers["authorization"] == "Bearer t"
    span = patched.span()
    assert (span["provider"], span["server_address"]) == ("gcp.vertex_ai", "127.0.0.1")
    assert (span["input_tokens"], span["output_tokens"], span["status"]) == (100, 20, "success")


@pytest.mark.parametrize(
    ("base_url", "is_vertex", "wanted"),
    [
        (None, False, ("gcp.gemini", "generativelanguage.googleapis.com", None)),
        (None, True, ("gcp.vertex_ai", "us-central1-aiplatform.googleapis.com", None)),
        ("https://aiplatform.googleapis.com/", True, ("gcp.vertex_ai", "aiplatform.googleapis.com", None)),
        ("https://gateway.example:8443/gemini", False, ("gcp.gemini", "gateway.example", 8443)),
        ("https://gateway.example/vertex", True, ("gcp.vertex_ai", "gateway.example", None)),
    ],
)
def test_an_endpoint_is_found_by_host_then_by_client(base_url: Any, is_vertex: bool, wanted: Any) -> None:
    class Nowhere:
        port = 9

    of = gemini.vertex_client_of if is_vertex else gemini.client_of
    with of(Nowhere, http_options={"base_url": base_url}) as made:
        for models in (made.models, made.aio.models):
            options = models
            for name in instrumentor.ENDPOINT:
                options = getattr(options, name)
            assert instrumentor._resolve(options, models) == wanted


def test_clients_of_both_apis_are_told_apart(provider: Any, patched: Any) -> None:
    for of in (gemini.client_of, gemini.vertex_client_of, gemini.client_of):
        provider.answer(reply())
        gemini.call(provider, "sync", "generate_content", of=of, **REQUEST)
    assert [span["provider"] for span in patched.spans()] == ["gcp.gemini", "gcp.vertex_ai", "gcp.gemini"]


# ---- the other methods ----


def test_embeddings_are_one_span(provider: Any, patched: Any, mode: str) -> None:
    provider.answer({"embeddings": [{"values": [0.5, 0.25]}], "usageMetadata": {"promptTokenCount": 7}})
    request = {"model": "gemini-embedding-test", "contents": "Hello", "config": {"output_dimensionality": 2}}
    answer = gemini.call(provider, mode, "embed_content", **request)
    assert answer.embeddings[0].values == [0.5, 0.25]
    span = patched.span()
    assert (span["kind"], span["operation"], span["status"]) == ("embedding", "embeddings", "success")
    assert (span["model_id"], span["request_params"]) == ("gemini-embedding-test", {"output_dimensionality": 2})
    if getattr(answer, "usage_metadata", None) is not None:
        assert span["input_tokens"] == 7


def test_images_are_one_span(provider: Any, patched: Any, mode: str) -> None:
    provider.answer({"predictions": [{"mimeType": "image/png", "bytesBase64Encoded": "iVBORw0KGgo="}]})
    request = {"model": "imagen-test", "prompt": "A cat", "config": {"number_of_images": 1, "aspect_ratio": "1:1"}}
    answer = gemini.call(provider, mode, "generate_images", of=gemini.vertex_client_of, **request)
    assert len(answer.generated_images) == 1
    span = patched.span()
    assert (span["kind"], span["operation"], span["model_id"]) == ("image", "image_generation", "imagen-test")
    assert span["request_params"] == {"number_of_images": 1, "aspect_ratio": "1:1"}


def test_an_enlarged_image_is_one_span(provider: Any, patched: Any, mode: str) -> None:
    provider.answer({"predictions": [{"mimeType": "image/png", "bytesBase64Encoded": "iVBORw0KGgo="}]})
    image = genai.types.Image(image_bytes=b"\x89PNG\r\n\x1a\n", mime_type="image/png")
    request = {"model": "imagen-test", "image": image, "upscale_factor": "x2"}
    gemini.call(provider, mode, "upscale_image", of=gemini.vertex_client_of, **request)
    span = patched.span()
    assert (span["kind"], span["operation"], span["status"]) == ("image", "image_edit", "success")


def test_a_video_is_one_span_when_it_is_asked_for(provider: Any, patched: Any, mode: str) -> None:
    gemini.requires("generate_videos")
    provider.answer({"name": "models/veo-test/operations/op-1"})
    request = {"model": "veo-test", "prompt": "A cat", "config": {"number_of_videos": 1}}
    gemini.call(provider, mode, "generate_videos", of=gemini.vertex_client_of, **request)
    span = patched.span()
    assert (span["operation"], span["model_id"]) == ("video_generation", "veo-test")
    assert span["response_id"] == "models/veo-test/operations/op-1"


def test_counting_tokens_is_a_task_without_usage(provider: Any, patched: Any, mode: str) -> None:
    provider.answer({"totalTokens": 5})
    assert gemini.call(provider, mode, "count_tokens", **REQUEST).total_tokens == 5
    span = patched.span()
    assert (span["kind"], span["operation"], span["model_id"]) == ("task", "count_tokens", MODEL)
    assert not {"input_tokens", "usage_source", "cost_usd"} & span.keys()


def test_what_is_no_call_of_a_model_is_no_span(provider: Any, client: Any, patched: Any) -> None:
    provider.answer({"name": f"models/{MODEL}"})
    assert client.models.get(model=MODEL).name == f"models/{MODEL}"
    assert patched.spans() == []


# ---- as if nobody was there ----


def owners() -> list[type]:
    from google.genai import _api_client, models

    client = getattr(_api_client, "BaseApiClient", None) or _api_client.ApiClient
    return [models.Models, models.AsyncModels, client]


def test_undoing_leaves_every_attribute_as_it_was(recording: Any) -> None:
    before = [dict(vars(owner)) for owner in owners()]
    instrumentation = gemini.instrumentation_of(recording)
    instrumentation.apply()
    replaced = [
        [name for name, value in vars(owner).items() if value is not attributes[name]]
        for owner, attributes in zip(owners(), before, strict=True)
    ]
    assert len(replaced[0]) == len(replaced[1]) >= 7
    instrumentation.undo()
    for owner, attributes in zip(owners(), before, strict=True):
        assert vars(owner).keys() == attributes.keys()
        assert all(vars(owner)[name] is value for name, value in attributes.items())


def test_it_is_the_providers_method_to_everybody_who_asks(patched: Any) -> None:
    for owner in owners()[:2]:
        for path, _ in instrumentor._seams(owner.__name__):
            stand_in = vars(owner)[path.rpartition(".")[2]]
            original = stand_in.__wrapped__
            assert inspect.signature(stand_in) == inspect.signature(original)
            assert inspect.iscoroutinefunction(stand_in) == inspect.iscoroutinefunction(original)
            assert (stand_in.__doc__, stand_in.__qualname__) == (original.__doc__, original.__qualname__)


def test_public_methods_are_the_sdks_own(patched: Any) -> None:
    if gemini.release() < (1, 10):
        pytest.skip(f"google-genai {genai.__version__} makes some calls in its public methods")
    for name in ("generate_content", "generate_content_stream", "embed_content"):
        assert inspect.isfunction(vars(genai.models.Models)[name])


def test_nothing_of_the_request_changes(provider: Any, recording: Any) -> None:
    """The same call with and without us: the same bytes, the same headers."""

    def call() -> tuple[str, dict[str, str], bytes]:
        provider.answer(reply())
        config = {"temperature": 0.5, "topK": 3, "http_options": {"headers": {"x-mine": "1"}}}
        gemini.call(provider, "sync", "generate_content", **REQUEST, config=config)
        return provider.requests[-1]

    theirs = call()
    with gemini.instrumented(recording):
        ours = call()
    assert ours == theirs
    assert len(recording.spans()) == 1


def test_it_is_instrumented_by_name_when_the_package_comes() -> None:
    from fasttrace import instrumentation

    assert instrumentation.PACKAGES["google_genai"] == "google.genai"
    assert {"google_genai", "google_generativeai"} <= instrumentation.SDKS.keys()
