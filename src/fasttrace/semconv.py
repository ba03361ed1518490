"""Names of the OpenTelemetry GenAI conventions that fasttrace writes, and which provider a host belongs to.

Values of `operation` are `gen_ai.operation.name`, values of `provider` are `gen_ai.provider.name`. Where the
conventions name no value for a provider, the value follows their pattern.
"""

from __future__ import annotations

CHAT = "chat"
EMBEDDINGS = "embeddings"

OPENAI = "openai"
AZURE_OPENAI = "azure.ai.openai"

# The longest suffix that fits decides.
PROVIDER_BY_HOST = {
    "api.openai.com": OPENAI,
    "openai.azure.com": AZURE_OPENAI,
    "cognitiveservices.azure.com": AZURE_OPENAI,
    "services.ai.azure.com": "azure.ai.inference",
    "models.ai.azure.com": "azure.ai.inference",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "amazonaws.com": "aws.bedrock",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks_ai",
    "api.groq.com": "groq",
    "ml.cloud.ibm.com": "ibm.watsonx.ai",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "openrouter.ai": "openrouter",
    "api.perplexity.ai": "perplexity",
    "api.together.ai": "together_ai",
    "api.together.xyz": "together_ai",
    "api.x.ai": "x_ai",
}


def provider_of(host: str) -> str | None:
    """The provider whose API answers at `host`, None for a host nobody published."""
    labels = host.lower().split(".")
    for start in range(len(labels)):
        provider = PROVIDER_BY_HOST.get(".".join(labels[start:]))
        if provider is not None:
            return provider
    return None
