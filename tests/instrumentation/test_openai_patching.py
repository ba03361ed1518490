"""The openai SDK under instrumentation is the SDK to everybody who looks: public methods, nesting, threads, undoing."""

from __future__ import annotations

import importlib
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai_calls as calls
from openai_calls import MESSAGES, chat, completion

from fasttrace.core._api import CURRENT

openai = calls.openai

MODULES = {
    "openai.resources.chat.completions": ("Completions", "AsyncCompletions"),
    "openai.resources.completions": ("Completions", "AsyncCompletions"),
    "openai.resources.embeddings": ("Embeddings", "AsyncEmbeddings"),
    "openai.resources.images": ("Images", "AsyncImages"),
    "openai.resources.moderations": ("Moderations", "AsyncModerations"),
    "openai._base_client": ("SyncAPIClient", "AsyncAPIClient", "BaseClient"),
    "openai._client": ("OpenAI", "AsyncOpenAI"),
    "openai.lib.azure": ("AzureOpenAI", "AsyncAzureOpenAI"),
    "openai._streaming": ("Stream", "AsyncStream"),
    "openai._legacy_response": ("LegacyAPIResponse",),
    "openai._response": ("APIResponse", "AsyncAPIResponse"),
}


def owners() -> list[Any]:
    modules = {name: importlib.import_module(name) for name in MODULES}
    return [getattr(modules[name], owner) for name, names in MODULES.items() for owner in names]


def test_only_the_seam_is_replaced(recording: Any) -> None:
    before = {owner: dict(vars(owner)) for owner in owners()}
    instrumentation = calls.instrumentation_of(recording)
    instrumentation.apply()
    try:
        changed = {
            f"{owner.__name__}.{name}"
            for owner, attributes in before.items()
            for name in vars(owner)
            if vars(owner)[name] is not attributes.get(name)
        }
    finally:
        instrumentation.undo()
    assert {"SyncAPIClient.request", "AsyncAPIClient.request"} < changed
    assert {name.split(".")[0] for name in changed} == {"SyncAPIClient", "AsyncAPIClient"}
    assert {name.split(".")[1] for name in changed} <= {"request", "_sleep_for_retry", "_retry_request"}


def test_undoing_leaves_every_attribute_as_it_was(recording: Any) -> None:
    before = {owner: dict(vars(owner)) for owner in owners()}
    for _ in range(2):
        instrumentation = calls.instrumentation_of(recording)
        instrumentation.apply()
        instrumentation.apply()
        instrumentation.undo()
        for owner, attributes in before.items():
            assert list(vars(owner)) == list(attributes)
            assert all(vars(owner)[name] is value for name, value in attributes.items())


def test_the_seam_is_the_sdks_method_to_everybody_who_asks(recording: Any) -> None:
    base = importlib.import_module("openai._base_client")
    originals = {name: getattr(base, name).request for name in ("SyncAPIClient", "AsyncAPIClient")}
    instrumentation = calls.instrumentation_of(recording)
    instrumentation.apply()
    try:
        for name, original in originals.items():
            stand_in = getattr(base, name).request
            assert stand_in.__wrapped__ is original
            assert inspect.signature(stand_in) == inspect.signature(original)
            assert inspect.iscoroutinefunction(stand_in) == inspect.iscoroutinefunction(original)
            assert (stand_in.__doc__, stand_in.__qualname__) == (original.__doc__, original.__qualname__)
    finally:
        instrumentation.undo()


def test_concurrent_calls_are_one_span_each(provider: Any, patched_openai: Any) -> None:
    for n in range(40):
        provider.answer(completion(id=f"chatcmpl-{n}"))
    with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as client, ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda n: chat(client, model=f"m-{n}").id, range(40)))
    spans = patched_openai.spans()
    assert sorted(span["response_id"] for span in spans) == sorted(ids)
    assert len({span["span_id"] for span in spans}) == 40


def test_a_call_inside_a_call_is_its_child(provider: Any, patched_openai: Any) -> None:
    """A client that asks another model while it prepares its own request."""
    with openai.OpenAI(api_key="k", base_url=provider.url, max_retries=0) as inner:

        class Outer(openai.OpenAI):
            def _prepare_options(self, options: Any) -> Any:
                assert CURRENT.get() is not None
                chat(inner, model="inner")
                return super()._prepare_options(options)

        provider.answer(completion(id="inner"))
        provider.answer(completion(id="outer"))
        with Outer(api_key="k", base_url=provider.url, max_retries=0) as outer:
            outer.chat.completions.create(model="outer", messages=MESSAGES)
    child, parent = patched_openai.spans()
    assert (child["response_id"], parent["response_id"]) == ("inner", "outer")
    assert (child["parent_span_id"], child["trace_id"]) == (parent["span_id"], parent["trace_id"])
