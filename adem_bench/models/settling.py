"""What counts as an answer: the one rule that responses of all kinds of models pass.

A sample that the model did not really answer fails, and is never scored: numbers that are not
finite, an answer that was withheld, an answer that was cut, reasoning that no answer follows.
An end token right at the start is an answer, and an empty one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from adem_bench.metrics.reasoning import UNANSWERED, answer_in
from adem_bench.records import Request, Response

NO_LOGPROBS = (
    "the model gave no log-probabilities of options, which the task's answer_rule asks for; choose "
    "another answer_rule"
)
NOT_FINITE = (
    "the model's numbers are not finite (NaN or infinite), so there is no most probable token; try "
    "another precision (--dtype float32 or bfloat16), or check the weights"
)
WITHHELD = "the answer was withheld (finish_reason filter)"
UNKNOWN_END = "the answer did not end in order (finish_reason error)"


def settle(
    request: Request, response: Response, cut_is_failed: bool, reasoning_tags: Sequence[str] = ()
) -> Response:
    """Return a response as it counts: its answer cut where it was to end, or why there is none.

    Args:
        request: What was asked.
        response: As the model gave it.
        cut_is_failed: Whether an answer that ended at `max_new_tokens` is none.
        reasoning_tags: Of what is none of the answer, as in metrics/reasoning.py; the text keeps
            it.
    """
    if response.error is not None:
        return replace(response, finish_reason=response.finish_reason or "error")
    if reasoning_tags and response.answer is None:
        answer = answer_in(response.text, reasoning_tags)
        if answer is None and not request.choices:
            stops = ", ".join(map(repr, request.stop))
            also = f"; or one of the task's stop strings ended it ({stops})" if stops else ""
            return replace(response, error=f"{UNANSWERED}{also}")
        if answer is not None and answer != response.text:
            response = replace(response, answer=answer)
    response = _ended(request, response)
    return replace(response, error=_fault(request, response, cut_is_failed))


def _ended(request: Request, response: Response) -> Response:
    """Cut a text where the request wants it to end: models may stop later, or not at all."""
    text = response.answer_text
    match = re.search(request.stop_pattern, text) if request.stop_pattern else None
    if match:
        text = text[: match.end()]
    places = [place for stop in request.stop if (place := text.find(stop)) >= 0]
    if places:
        text = text[: min(places)]
    if not match and not places:
        return response
    cut = replace(response, finish_reason="stop")
    return replace(cut, text=text) if response.answer is None else replace(cut, answer=text)


def _fault(request: Request, response: Response, cut_is_failed: bool) -> str | None:
    """Return why there is no answer; None if there is one."""
    if request.choices and response.choice_logprobs is None:
        return NO_LOGPROBS
    if any(math.isnan(value) or value > 0 for value in response.choice_logprobs or ()):
        return NOT_FINITE
    if response.finish_reason == "filter":
        return WITHHELD
    if response.finish_reason == "error":
        return UNKNOWN_END
    # A published rule that asks for one token reads one token.
    is_cut = response.finish_reason == "length" and request.max_new_tokens > 1
    if is_cut and cut_is_failed and not request.choices:
        return (
            f"the answer was cut at {request.max_new_tokens} tokens; raise options.max_new_tokens, "
            "or count such answers with --set model.options.cut_answers=scored"
        )
    return None
