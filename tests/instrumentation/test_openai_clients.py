"""Who answers an openai client: known hosts, Azure and other clients of the official SDK, what goes over the wire."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai_calls as calls
import pytest
from openai_calls import ask, chat, completion, whole_stream

from fasttrace import pricing, semconv
from fasttrace.instrumentation.openai import SDK
from fasttrace.instrumentation.openai import _resolve as resolve
from fasttrace.pricing.match import PROVIDERS, find_model

openai = calls.openai

CLIENT = object()
KNOWN_URLS = {
    "https://api.openai.com/v1/": "openai",
    "https://eu.api.openai.com/v1/": "openai",
    "https://my-resource.openai.azure.com/openai/": "azure.ai.openai",
    "https://my-resource.cognitiveservices.azure.com/openai/": "azure.ai.openai",
    "https://my-resource.openai.azure.us/openai/": "azure.ai.openai",
    "https://my-resource.openai.azure.cn/openai/": "azure.ai.openai",
    "https://my-resource.cognitiveservices.azure.cn/openai/": "azure.ai.openai",
    "https://my-resource.services.ai.azure.com/openai/v1/": "azure.ai.inference",
    "https://api.groq.com/openai/v1/": "groq",
    "https://api.together.xyz/v1/": "together_ai",
    "https://api.together.ai/v1/": "together_ai",
    "https://api.mistral.ai/v1/": "mistral_ai",
    "https://api.deepseek.com/": "deepseek",
    "https://openrouter.ai/api/v1/": "openrouter",
    "https://api.x.ai/v1/": "x_ai",
    "https://us-east-1.api.x.ai/v1/": "x_ai",
    "https://api.fireworks.ai/inference/v1/": "fireworks_ai",
    "https://api.perplexity.ai/": "perplexity",
    "https://api.cerebras.ai/v1/": "cerebras",
    "https://api.sambanova.ai/v1/": "sambanova",
    "https://api.studio.nebius.com/v1/": "nebius",
    "https://api.tokenfactory.nebius.com/v1/": "nebius",
    "https://router.huggingface.co/v1/": "huggingface",
    "https://models.github.ai/inference/": "github",
    "https://models.inference.ai.azure.com/": "github",
    "https://integrate.api.nvidia.com/v1/": "nvidia",
    "https://api.deepinfra.com/v1/openai/": "deepinfra",
    "https://api.cohere.ai/compatibility/v1/": "cohere",
    "https://api.moonshot.ai/v1/": "moonshot_ai",
    "https://api.moonshot.cn/v1/": "moonshot_ai",
    "https://generativelanguage.googleapis.com/v1beta/openai/": "gcp.gemini",
    "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/openapi/": "gcp.vertex_ai",
    "https://us-central1-aiplatform.googleapis.com/v1/projects/p/": "gcp.vertex_ai",
    "https://aiplatform.eu.rep.googleapis.com/v1/projects/p/": "gcp.vertex_ai",
    "https://api.anthropic.com/v1/": "anthropic",
    "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/": "aws.bedrock",
    "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com/": "aws.bedrock",
    "https://vpce-1-2.bedrock-runtime.us-east-1.vpce.amazonaws.com/": "aws.bedrock",
    "https://bedrock-mantle.us-east-1.api.aws/openai/v1/": "aws.bedrock",
    "https://ollama.com/v1/": "ollama",
    "http://localhost:11434/v1/": "ollama",
    "http://127.0.0.1:11434/v1/": "ollama",
    "http://[::1]:11434/v1/": "ollama",
    "http://0.0.0.0:11434/v1/": "ollama",
    "http://gpu.internal:11434/v1/": "ollama",
    "http://api.groq.com:11434/v1/": "groq",
}
UNKNOWN_URLS = (
    "http://localhost:8000/v1/",
    "http://127.0.0.1:4000/",
    "http://vllm.internal:8000/v1/",
    "http://:11434/v1/",
    "https://gateway.example.com/openai/",
    "https://my-gateway.us-east-1.elb.amazonaws.com/v1/",
    "https://storage.googleapis.com/",
    "https://notopenai.azure.com.example.com/",
    "https://notapi.groq.com.evil.example/",
    "https:///",
    "no url at all",
    "",
)


@pytest.mark.parametrize("url", KNOWN_URLS)
def test_the_host_tells_the_provider(url: str) -> None:
    assert resolve(url, CLIENT).provider == KNOWN_URLS[url]


@pytest.mark.parametrize("url", UNKNOWN_URLS)
def test_an_unknown_host_keeps_the_sdks_own_name(url: str) -> None:
    assert resolve(url, CLIENT).provider == SDK


def test_the_address_and_a_port_that_is_not_the_schemes_own() -> None:
    assert resolve("https://API.Groq.com:443/openai/v1", CLIENT) == ("groq", "api.groq.com", None)
    assert resolve("http://gateway.internal:8080/v1", CLIENT) == ("openai", "gateway.internal", 8080)
    assert resolve("http://[::1]:8000/v1", CLIENT) == ("openai", "::1", 8000)
    assert resolve("", CLIENT) == ("openai", None, None)


@pytest.mark.parametrize("name", ["AzureOpenAI", "AsyncAzureOpenAI"])
def test_an_azure_client_is_azures_behind_a_gateway_too(name: str) -> None:
    made = getattr(openai, name)(api_key="k", api_version="2024-06-01", base_url="https://gateway.example.com/openai")

    class Derived(type(made)): ...  # type: ignore[misc]

    for client in (made, SimpleNamespace(), Derived.__new__(Derived)):
        expected = "openai" if type(client) is SimpleNamespace else "azure.ai.openai"
        assert resolve("https://gateway.example.com/openai", client).provider == expected
    assert resolve("https://api.groq.com/openai/v1", made).provider == "groq"


def test_an_azure_client_is_azure_openais_where_other_apis_answer_too() -> None:
    made = openai.AzureOpenAI(api_key="k", api_version="2024-06-01", azure_endpoint="https://r.services.ai.azure.com")
    assert resolve(made._base_url, made).provider == "azure.ai.openai"
    assert resolve(made._base_url, CLIENT).provider == "azure.ai.inference"
    assert resolve("http://gateway.internal:11434/openai", made).provider == "azure.ai.openai"


# ---- prices ----

# One model that each of these sells, as its own replies name it.
SOLD = {
    "openai": "gpt-4o-mini-2024-07-18",
    "azure.ai.openai": "gpt-4o-mini-2024-07-18",
    "azure.ai.inference": "gpt-4o-mini-2024-07-18",
    "groq": "llama-3.3-70b-versatile",
    "together_ai": "meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "mistral_ai": "mistral-small-latest",
    "deepseek": "deepseek-chat",
    "openrouter": "openai/gpt-4o-mini",
    "x_ai": "grok-4-0709",
    "fireworks_ai": "accounts/fireworks/models/deepseek-v3p2",
    "perplexity": "sonar",
    "cerebras": "llama3.1-8b",
    "cohere": "command-r",
    "moonshot_ai": "kimi-k2-0905-preview",
    "gcp.gemini": "gemini-2.5-flash",
    "gcp.vertex_ai": "google/gemini-2.5-flash",
    "anthropic": "claude-sonnet-4-5-20250929",
    "aws.bedrock": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
}


@pytest.fixture(scope="module")
def sellers() -> Any:
    return json.loads(Path(pricing.__file__).with_name("models.json").read_text("utf-8"))["providers"]


@pytest.mark.parametrize("provider_name", SOLD)
def test_what_a_provider_sells_has_a_price(sellers: Any, provider_name: str) -> None:
    assert find_model(sellers, provider_name, SOLD[provider_name]) is not None


def test_every_provider_that_is_known_by_its_host_has_a_price_list_or_none_to_have(sellers: Any) -> None:
    """Who resells many models under one name, or asks for none, is in no list; all others must be found in it."""
    named = {PROVIDERS.get(name, name) for name in semconv.PROVIDER_BY_HOST.values()}
    assert named - sellers.keys() == {
        "deepinfra",
        "github",
        "huggingface",
        "ibm.watsonx.ai",
        "nebius",
        "nvidia",
        "ollama",
        "sambanova",
    }


# ---- clients ----


def test_an_azure_client_is_recorded(provider: Any, patched_openai: Any, mode: str) -> None:
    provider.answer(completion())
    import asyncio

    client_class = openai.AzureOpenAI if mode == "sync" else openai.AsyncAzureOpenAI
    options = {"api_key": "k", "api_version": "2024-06-01", "max_retries": 0}
    client = client_class(azure_endpoint=f"http://127.0.0.1:{provider.port}", **options)
    if mode == "sync":
        with client:
            chat(client, model="deployment")
    else:

        async def main() -> None:
            async with client:
                await chat(client, model="deployment")

        asyncio.run(main())
    assert provider.requests[0][0] == "/openai/deployments/deployment/chat/completions?api-version=2024-06-01"
    span = patched_openai.span()
    assert (span["provider"], span["server_address"]) == ("azure.ai.openai", "127.0.0.1")
    assert (span["model_id"], span["request_model"], span["input_tokens"]) == (calls.MODEL, "deployment", 100)


def test_the_module_level_client_is_recorded(
    provider: Any, patched_openai: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "api_key", "k")
    monkeypatch.setattr(openai, "base_url", provider.url)
    openai._reset_client()
    provider.answer(completion())
    openai.chat.completions.create(model="gpt-4o-mini", messages=calls.MESSAGES)
    openai._reset_client()
    assert patched_openai.span()["status"] == "success"


def test_a_client_with_other_options_goes_where_it_says(provider: Any, patched_openai: Any) -> None:
    provider.answer(completion())
    provider.answer(completion())
    with openai.OpenAI(api_key="k", base_url="http://127.0.0.1:9/v1", max_retries=0) as client:
        chat(client.with_options(base_url=provider.url))
        client.base_url = provider.url
        chat(client)
    assert [span["server_port"] for span in patched_openai.spans()] == 2 * [provider.port]


# ---- what goes over the wire ----

VOLATILE = ("idempotency-key", "host")


def sent(provider: Any) -> tuple[str, dict[str, str], bytes]:
    path, headers, body = provider.requests[-1]
    return path, {name: value for name, value in headers.items() if name not in VOLATILE}, body


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_nothing_of_the_request_changes(provider: Any, recording: Any, mode: str, stream: bool) -> None:
    """The same call with and without us: the same bytes, the same headers."""

    def call() -> tuple[str, dict[str, str], bytes]:
        if stream:
            provider.stream(whole_stream())
        else:
            provider.answer(completion())
        ask(provider, mode, lambda made: chat(made, stream=stream, temperature=0.5, extra_headers={"x-mine": "1"}))
        return sent(provider)

    theirs = call()
    instrumentation = calls.instrumentation_of(recording)
    instrumentation.apply()
    try:
        ours = call()
    finally:
        instrumentation.undo()
    assert ours == theirs
    assert len(recording.spans()) == 1
