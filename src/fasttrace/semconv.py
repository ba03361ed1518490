"""Names of the OpenTelemetry GenAI conventions that fasttrace writes, and which provider a host belongs to.

Values of `operation` are `gen_ai.operation.name`, values of `provider` are `gen_ai.provider.name`. Where the
conventions name no value, ours follows their pattern: an operation is the noun of what is made (`text_completion`,
`embeddings`), a provider is the name its API's host goes by, an ending like `.ai` written `_ai`.
"""

from __future__ import annotations

CHAT = "chat"
TEXT_COMPLETION = "text_completion"
GENERATE_CONTENT = "generate_content"
EMBEDDINGS = "embeddings"
FETCH_RESPONSE = "fetch_response"
# No value of the conventions' own.
COMPACTION = "compaction"
COUNT_TOKENS = "count_tokens"
COMPUTE_TOKENS = "compute_tokens"
IMAGE_GENERATION = "image_generation"
IMAGE_EDIT = "image_edit"
IMAGE_VARIATION = "image_variation"
IMAGE_SEGMENTATION = "image_segmentation"
VIDEO_GENERATION = "video_generation"
SPEECH = "speech"
TRANSCRIPTION = "transcription"
TRANSLATION = "translation"
MODERATION = "moderation"

OPENAI = "openai"
ANTHROPIC = "anthropic"
AZURE_OPENAI = "azure.ai.openai"
AZURE_INFERENCE = "azure.ai.inference"
BEDROCK = "aws.bedrock"
GEMINI = "gcp.gemini"
VERTEX = "gcp.vertex_ai"
OLLAMA = "ollama"

# The longest suffix that fits decides.
PROVIDER_BY_HOST = {
    "api.openai.com": OPENAI,
    "openai.azure.com": AZURE_OPENAI,
    "openai.azure.us": AZURE_OPENAI,
    "openai.azure.cn": AZURE_OPENAI,
    "cognitiveservices.azure.com": AZURE_OPENAI,
    "cognitiveservices.azure.us": AZURE_OPENAI,
    "cognitiveservices.azure.cn": AZURE_OPENAI,
    "services.ai.azure.com": AZURE_INFERENCE,
    "models.ai.azure.com": AZURE_INFERENCE,
    "inference.ai.azure.com": AZURE_INFERENCE,
    "inference.ml.azure.com": AZURE_INFERENCE,
    "api.anthropic.com": ANTHROPIC,
    "generativelanguage.googleapis.com": GEMINI,
    "aiplatform.googleapis.com": VERTEX,
    "api.cerebras.ai": "cerebras",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.deepinfra.com": "deepinfra",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks_ai",
    "models.github.ai": "github",
    "models.inference.ai.azure.com": "github",
    "api.groq.com": "groq",
    "router.huggingface.co": "huggingface",
    "api-inference.huggingface.co": "huggingface",
    "endpoints.huggingface.cloud": "huggingface",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "api.mistral.ai": "mistral_ai",
    "codestral.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.studio.nebius.ai": "nebius",
    "api.studio.nebius.com": "nebius",
    "api.tokenfactory.nebius.com": "nebius",
    "api.novita.ai": "novita_ai",
    "integrate.api.nvidia.com": "nvidia",
    "ai.api.nvidia.com": "nvidia",
    "ollama.com": OLLAMA,
    "openrouter.ai": "openrouter",
    "api.perplexity.ai": "perplexity",
    "api.sambanova.ai": "sambanova",
    "api.together.ai": "together_ai",
    "api.together.xyz": "together_ai",
    "api.voyageai.com": "voyage_ai",
    "api.x.ai": "x_ai",
    "api.z.ai": "z_ai",
}
AWS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
OLLAMA_PORT = 11434


def provider_of(host: str, port: int | None = None) -> str | None:
    """The provider whose API answers at `host`, None for a host nobody published.

    Of those Ollama is known, by the port it listens on unless told otherwise.
    """
    host = host.lower().rstrip(".")
    labels = host.split(".")
    for start in range(len(labels)):
        provider = PROVIDER_BY_HOST.get(".".join(labels[start:]))
        if provider is not None:
            return provider
    return _regional_provider(host, labels) or (OLLAMA if host and port == OLLAMA_PORT else None)


def _regional_provider(host: str, labels: list[str]) -> str | None:
    """Hosts with a region inside: `us-east5-aiplatform.googleapis.com`, `bedrock-runtime.us-east-1.amazonaws.com`."""
    if host.endswith(".googleapis.com"):
        is_vertex = any(label == "aiplatform" or label.endswith("-aiplatform") for label in labels)
        return VERTEX if is_vertex else None
    if host.endswith(AWS):
        return BEDROCK if any(label.startswith("bedrock") for label in labels) else None
    return None
