"""Requests in the words of the chat-completions interface."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from adem_bench.digests import digest
from adem_bench.images import common_form
from adem_bench.models.openai_api.bodies import whole
from adem_bench.models.openai_api.settings import ServedOptions
from adem_bench.records import Request


def request_body(model: str, request: Request, options: ServedOptions) -> dict[str, Any]:
    """Return the JSON of a request: images first, then the prompt.

    Args:
        model: Its name on the server.
        request: Prompt, images and limit on new tokens.
        options: The card's.

    Raises:
        UnreadableImageError: an image is missing, broken or absurdly large.
    """
    pictures: list[Any] = [
        {"type": "image_url", "image_url": {"url": data_uri(path)}} for path in request.images
    ]
    prompt = whole(request.prompt)
    words = [{"type": "text", "text": prompt}]
    # Text alone goes as text: servers of language models without images know nothing else.
    content: Any = [*pictures, *words] if pictures else prompt
    system = [{"role": "system", "content": whole(options.system)}] if options.system else []
    fields = {
        "model": model,
        "messages": [*system, {"role": "user", "content": content}],
        options.max_tokens_field: request.max_new_tokens,
        "temperature": 0,
        **options.parameters,
        **_decoding(request),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _decoding(request: Request) -> dict[str, Any]:
    """Return the fields of a request that says how tokens are chosen."""
    decoding = request.decoding
    if decoding.temperature is None:
        return {}
    fields: dict[str, Any] = {"temperature": decoding.temperature}
    if decoding.samples:
        # A seed for each request: one for all would draw alike questions alike.
        fields["seed"] = int(digest([decoding.seed, request.digest()])[:8], 16) >> 1
        if decoding.top_p is not None:
            fields["top_p"] = decoding.top_p
    return fields


def data_uri(path: Path) -> str:
    """Return an image file as a `data:` URI, in its own bytes where all servers read those alike.

    Raises:
        UnreadableImageError: it cannot be read to its end.
    """
    form = common_form(path)
    return f"data:{form.media_type};base64,{base64.b64encode(form.data).decode()}"
