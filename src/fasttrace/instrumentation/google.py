"""The official google-genai package, generations 1 to 3: clients of the Gemini API and of Vertex AI, any base URL.

Patched are the methods that make one HTTP call each. Most of them are private: the public ones above them (chats, too)
go on calling for as long as the model asks for functions or stops in the middle, and convert their arguments first.
A release that has no private method makes its call in the public one. There is no seam below them: the client's
`request` has neither the arguments nor the reply as objects.

The synchronous stream is a generator, so its request is made by the first step; the SDK's own code reads it. The SDK
leaves retries to a library that calls the method for one attempt again: attempts are counted there.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from fasttrace import semconv
from fasttrace.core._api import CallSpec, Node, StreamSpec
from fasttrace.instrumentation.call import count_attempt, resolver
from fasttrace.instrumentation.content import embeddings_content, generate_content_content, media_content
from fasttrace.instrumentation.registry import Patch
from fasttrace.trace.failure import failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fasttrace.core._api import ContentSpec, Endpoint, Use

SDK = "gcp.gen_ai"
MODELS = "google.genai.models"
CLIENT = "google.genai._api_client"

# Of a client's own, and not the client: what was resolved is remembered by it, and keeps it alive.
ENDPOINT = ("_api_client", "_http_options")


# Parameters of `config`, by what is made.
THINKING = dict.fromkeys(("thinking_budget", "thinking_level", "include_thoughts"), "param")
PICTURE = dict.fromkeys(("aspect_ratio", "image_size"), "param")
GENERATION: dict[str, Use] = {
    **dict.fromkeys(
        (
            *("temperature", "top_p", "top_k", "max_output_tokens", "candidate_count", "seed"),
            *("presence_penalty", "frequency_penalty", "response_logprobs", "logprobs"),
            *("response_mime_type", "media_resolution"),
        ),
        "param",
    ),
    "service_tier": "tier",
    "thinking_config": THINKING,
    "image_config": PICTURE,
}
EMBEDDING: dict[str, Use] = dict.fromkeys(("task_type", "output_dimensionality", "mime_type", "auto_truncate"), "param")
IMAGE: dict[str, Use] = dict.fromkeys(
    (
        *("number_of_images", "aspect_ratio", "image_size", "guidance_scale", "seed", "language", "edit_mode"),
        *("safety_filter_level", "person_generation", "add_watermark", "enhance_prompt", "base_steps"),
        *("output_mime_type", "output_compression_quality", "mode", "max_predictions"),
    ),
    "param",
)
VIDEO: dict[str, Use] = dict.fromkeys(
    (
        *("number_of_videos", "fps", "duration_seconds", "seed", "aspect_ratio", "resolution"),
        *("person_generation", "enhance_prompt", "generate_audio"),
    ),
    "param",
)


def _spelled(members: Mapping[str, Use]) -> dict[str, Use]:
    """A dictionary given as `config` may have its keys in the API's spelling as well."""
    found: dict[str, Use] = {}
    for name, use in members.items():
        head, *rest = name.split("_")
        for spelling in (name, head + "".join(word.capitalize() for word in rest)):
            found[spelling] = use if isinstance(use, str) else _spelled(use)
    return found


def _of_modality(modality: str, field: str) -> Node:
    return Node("token_count", field, types=(modality,), tag="modality")


# The API leaves zeros out: beside other counts, a prompt that is not counted had no tokens. Output that is not counted
# stays unknown, and so does the cost: a blocked prompt has neither. What a tool brought into the prompt is input, what
# the model thought is output.
COUNTS = (
    Node("prompt_token_count", "input_tokens", otherwise=0),
    Node("tool_use_prompt_token_count", adds="input_tokens"),
    Node("cached_content_token_count", "cache_read_tokens"),
    Node("candidates_token_count", "output_tokens"),
    Node("thoughts_token_count", "reasoning_tokens", adds="output_tokens"),
    Node(
        "prompt_tokens_details",
        each=True,
        children=(_of_modality("AUDIO", "input_audio_tokens"), _of_modality("IMAGE", "input_image_tokens")),
    ),
    Node("candidates_tokens_details", each=True, children=(_of_modality("AUDIO", "output_audio_tokens"),)),
)
# Vertex AI reports by what its answers are paid, the Gemini API its tier in a header.
USAGE = Node("usage_metadata", children=(*COUNTS, Node("traffic_type", "service_tier")), late=True)
HEADERS = Node(
    "sdk_http_response",
    children=(Node("headers", children=(Node("x-gemini-service-tier", "service_tier"),)),),
    late=True,
)
FUNCTION = Node("function_call", children=(Node("name", "tool_calls"),), mark="token")
CHUNK_PART = (
    Node("text", mark="text", unless="thought"),
    FUNCTION,
    Node("inline_data", mark="token"),
    Node("executable_code", mark="token"),
    Node("code_execution_result", mark="token"),
    Node("tool_call", mark="token"),
)


def candidates(*part: Node) -> Node:
    """The answers, of which these are read of each part."""
    content = Node("content", children=(Node("parts", children=part, each=True),))
    return Node("candidates", children=(content, Node("finish_reason", "finish_reasons", mark="end")), each=True)


ANSWER = (Node("model_version", "model_id"), Node("response_id", "response_id"), HEADERS, USAGE)
REPLY = (*ANSWER, candidates(FUNCTION))
CHUNK = (*ANSWER, candidates(*CHUNK_PART))
EMBED_REPLY = (Node("usage_metadata", children=(Node("prompt_token_count", "input_tokens"),)),)

_gemini, _vertex = resolver(semconv.GEMINI), resolver(semconv.VERTEX)


def _resolve(options: Any, models: Any) -> Endpoint:
    """A gateway's host tells nothing: then the client says which of the two APIs it is."""
    base_url = options.get("base_url") if isinstance(options, dict) else options.base_url
    return (_vertex if models._api_client.vertexai else _gemini)(base_url, models)


class _Row(NamedTuple):
    """A method by its public name, and how its call is recorded."""

    name: str
    kind: str
    operation: str
    config: Mapping[str, Use] = {}
    reply: tuple[Node, ...] = ()
    streams: bool = False
    content: Callable[[], ContentSpec] | None = None


_generate = _Row(
    "generate_content", "llm", semconv.GENERATE_CONTENT, GENERATION, REPLY, content=generate_content_content
)
_image = _Row("generate_images", "image", semconv.IMAGE_GENERATION, IMAGE, content=media_content)
ROWS = (
    _generate,
    _generate._replace(name="generate_content_stream", streams=True),
    _Row("embed_content", "embedding", semconv.EMBEDDINGS, EMBEDDING, EMBED_REPLY, content=embeddings_content),
    _image,
    _image._replace(name="edit_image", operation=semconv.IMAGE_EDIT),
    _image._replace(name="upscale_image", operation=semconv.IMAGE_EDIT),
    _image._replace(name="recontext_image", operation=semconv.IMAGE_EDIT),
    _image._replace(name="segment_image", operation=semconv.IMAGE_SEGMENTATION),
    # What comes back is the name of what is made meanwhile.
    _Row("generate_videos", "image", semconv.VIDEO_GENERATION, VIDEO, (Node("name", "response_id"),)),
    _Row("count_tokens", "task", semconv.COUNT_TOKENS),
    _Row("compute_tokens", "task", semconv.COMPUTE_TOKENS),
)


def _spec(row: _Row, is_async: bool) -> CallSpec:
    """What is asked for and not there costs most: no other spelling is, of an object that the SDK has made."""
    config = row.config if row.config is GENERATION and _makes_objects() else _spelled(row.config)
    return CallSpec(
        row.kind,
        row.operation,
        SDK,
        is_async,
        {"model": "model", "config": config} if config else {"model": "model"},
        row.reply,
        ENDPOINT,
        _resolve,
        failure,
        stream=StreamSpec(None, chunk=CHUNK) if row.streams else None,
        content=row.content and row.content(),
        always_streams=row.streams,
    )


def _makes_objects() -> bool:
    return hasattr(importlib.import_module("google.genai._extra_utils"), "parse_config_for_mcp_usage")


def _seams(owner: str) -> Iterable[tuple[str, _Row]]:
    """Where this release makes the call of each row that it has."""
    found = vars(getattr(importlib.import_module(MODELS), owner))
    for row in ROWS:
        name = next((name for name in (f"_{row.name}", row.name) if name in found), None)
        if name is not None:
            yield f"{owner}.{name}", row


def patches(method: Callable[[Any, CallSpec], Any], switch: Callable[[Any, bool], None]) -> list[Patch]:
    """The table of what is replaced; `method(original, spec)` makes the recording callable, `switch` turns it off."""

    def patch(path: str, spec: CallSpec) -> Patch:
        return Patch(MODELS, path, lambda original: method(original, spec), switch)

    found = [
        patch(path, _spec(row, is_async))
        for owner, is_async in (("Models", False), ("AsyncModels", True))
        for path, row in _seams(owner)
    ]
    # The first releases do not try again.
    for attempt in ("_request_once", "_async_request_once"):
        found.append(Patch(CLIENT, f"BaseApiClient.{attempt}", count_attempt, is_optional=True))
    return found
