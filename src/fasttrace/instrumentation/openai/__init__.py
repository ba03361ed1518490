"""The official openai package, generations 1 to 3, sync, async and Azure clients, any base URL.

Patched is the client's `request`, which every call goes through exactly once: `create`, `parse` and the helpers above
them, the beta paths, and the raw methods that the SDK makes of them and caches. The public methods stay the SDK's own
objects, so nobody who asks them for a signature or an overload can tell that we are there. A call to a path that is not
in the table below is not touched.

Streams are watched through the iterator that the SDK's Stream keeps; closing one early closes the HTTP response, from
whichever object (the stream, a helper's stream around it, the response) it is asked for.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fasttrace import semconv
from fasttrace.core._api import CallSpec, StreamSpec
from fasttrace.instrumentation.call import CLIENT_ENDPOINT, client_patches, resolver
from fasttrace.instrumentation.content import (
    chat_content,
    embeddings_content,
    media_content,
    responses_content,
    text_completion_content,
)
from fasttrace.instrumentation.openai.chat import (
    CHAT_CHUNK,
    CHAT_REPLY,
    CHAT_REQUEST,
    COMPLETION_CHUNK,
    COMPLETION_REPLY,
    COMPLETION_REQUEST,
    EMBEDDINGS_REPLY,
    EMBEDDINGS_REQUEST,
    failure_of_chat,
    include_usage,
)
from fasttrace.instrumentation.openai.media import (
    IMAGE_EVENTS,
    IMAGE_REPLY,
    IMAGE_REQUEST,
    MODERATION_REPLY,
    MODERATION_REQUEST,
    SPEECH_REQUEST,
    TRANSCRIPTION_EVENTS,
    TRANSCRIPTION_REPLY,
    TRANSCRIPTION_REQUEST,
)
from fasttrace.instrumentation.openai.responses import (
    FETCH_EVENTS,
    FETCH_REPLY,
    FETCH_REQUEST,
    RESPONSE_EVENTS,
    RESPONSE_REPLY,
    RESPONSE_REQUEST,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from fasttrace.core._api import ContentSpec, Node, Use
    from fasttrace.instrumentation.registry import Patch

SDK = semconv.OPENAI
PROVIDER_BY_CLASS = {
    "BaseAzureClient": semconv.AZURE_OPENAI,
    **dict.fromkeys(("BedrockOpenAI", "AsyncBedrockOpenAI"), semconv.BEDROCK),
}
ITERATOR, BODY = "_iterator", ("response", "stream")

_resolve = resolver(SDK, PROVIDER_BY_CLASS)


def _spec(
    kind: str,
    operation: str,
    request: Mapping[str, Use],
    reply: tuple[Node, ...],
    *,
    chunk: tuple[Node, ...] = (),
    events: Mapping[str, tuple[Node, ...]] | None = None,
    content: ContentSpec | None = None,
    amend: Callable[[Any], None] | None = None,
) -> CallSpec:
    stream = StreamSpec(ITERATOR, BODY, chunk, events or {}) if chunk or events else None
    return CallSpec(
        kind, operation, SDK, False, request, reply, CLIENT_ENDPOINT, _resolve, failure_of_chat, stream, content, amend
    )


_image = partial(_spec, "image", request=IMAGE_REQUEST, reply=IMAGE_REPLY, content=media_content())
_audio = partial(_spec, "audio", content=media_content())

ROUTES = {
    "post /chat/completions": _spec(
        "llm",
        semconv.CHAT,
        CHAT_REQUEST,
        CHAT_REPLY,
        chunk=CHAT_CHUNK,
        content=chat_content(),
        amend=include_usage,
    ),
    "post /completions": _spec(
        "llm",
        semconv.TEXT_COMPLETION,
        COMPLETION_REQUEST,
        COMPLETION_REPLY,
        chunk=COMPLETION_CHUNK,
        content=text_completion_content(),
        amend=include_usage,
    ),
    "post /responses": _spec(
        "llm",
        semconv.CHAT,
        RESPONSE_REQUEST,
        RESPONSE_REPLY,
        events=RESPONSE_EVENTS,
        content=responses_content(),
    ),
    "post /responses/compact": _spec("llm", semconv.COMPACTION, RESPONSE_REQUEST, RESPONSE_REPLY),
    "get /responses/*": _spec("llm", semconv.FETCH_RESPONSE, FETCH_REQUEST, FETCH_REPLY, events=FETCH_EVENTS),
    "post /embeddings": _spec(
        "embedding", semconv.EMBEDDINGS, EMBEDDINGS_REQUEST, EMBEDDINGS_REPLY, content=embeddings_content()
    ),
    "post /images/generations": _image(semconv.IMAGE_GENERATION, events=IMAGE_EVENTS),
    "post /images/edits": _image(semconv.IMAGE_EDIT, events=IMAGE_EVENTS),
    "post /images/variations": _image(semconv.IMAGE_VARIATION),
    "post /audio/speech": _audio(semconv.SPEECH, SPEECH_REQUEST, ()),
    "post /audio/transcriptions": _audio(
        semconv.TRANSCRIPTION, TRANSCRIPTION_REQUEST, TRANSCRIPTION_REPLY, events=TRANSCRIPTION_EVENTS
    ),
    "post /audio/translations": _audio(semconv.TRANSLATION, TRANSCRIPTION_REQUEST, TRANSCRIPTION_REPLY),
    "post /moderations": _spec(
        "moderation", semconv.MODERATION, MODERATION_REQUEST, MODERATION_REPLY, content=media_content()
    ),
}


def _routes(is_async: bool) -> Mapping[str, CallSpec]:
    return {route: spec._replace(is_async=is_async) for route, spec in ROUTES.items()}


def patches(method: Callable[[Any, Any], Any], switch: Callable[[Any, bool], None]) -> list[Patch]:
    """The table of what is replaced; `method(original, router)` makes what records, `switch` turns it off."""
    return client_patches(SDK, _routes, method, switch)
