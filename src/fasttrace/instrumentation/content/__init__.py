"""The content of calls: what was asked and what was said, as JSON of a bounded size, without secrets and payloads.

Off unless FASTTRACE_CAPTURE_CONTENT says otherwise. Every maker here gives a ContentSpec for one kind of call: input
from the request as it is sent, output from a reply, and what puts the same output together from a stream's chunks.
Both are under the provider's own names. Runs on the callers' threads.
"""

from fasttrace.instrumentation.content.anthropic import messages_content
from fasttrace.instrumentation.content.google import generate_content_content, legacy_generate_content_content
from fasttrace.instrumentation.content.openai_chat import chat_content, text_completion_content
from fasttrace.instrumentation.content.openai_media import embeddings_content, media_content
from fasttrace.instrumentation.content.openai_responses import responses_content

__all__ = [
    "chat_content",
    "embeddings_content",
    "generate_content_content",
    "legacy_generate_content_content",
    "media_content",
    "messages_content",
    "responses_content",
    "text_completion_content",
]
