"""The registered kind `openai`: a model that a server runs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from adem_bench.digests import digest
from adem_bench.errors import AdemBenchError
from adem_bench.images import UnreadableImageError
from adem_bench.metrics.reasoning import stated_tags
from adem_bench.models.base import Budget, Model, ModelOptions
from adem_bench.models.openai_api.bodies import clean
from adem_bench.models.openai_api.http_client import (
    BrokenOffError,
    Reply,
    UnreachableError,
    post,
    proxy_note,
    redirect_note,
)
from adem_bench.models.openai_api.keys import Redaction
from adem_bench.models.openai_api.messages import request_body
from adem_bench.models.openai_api.refusals import error_status, error_text, is_filtered
from adem_bench.models.openai_api.replies import (
    Answer,
    MalformedError,
    RefusedError,
    UnansweredError,
    read_answer,
)
from adem_bench.models.openai_api.retry import Gate, backoff_s, pause_s, retry_after_s
from adem_bench.models.openai_api.settings import ENDPOINT, find_server, read_options
from adem_bench.models.openai_api.thread_pool import DaemonThreadPool
from adem_bench.records import Decoding, FinishReason, Request, Response
from adem_bench.schemas import ModelCard

TRY_AGAIN = frozenset((408, 409, 425, 429, *range(500, 600)))
HOPELESS = frozenset((301, 302, 303, 307, 308, 403, 404, 405, 407))
"""Wrong address or model: if it comes before any answer, it will come for every sample."""
UNREACHABLE = -1
"""In place of a status: no server is there."""
FINAL = frozenset((401, 402))
"""A wrong key, or nothing left to spend: it comes for every sample from now on."""
BUSY = frozenset((429, 503, 529))
COUNTED_REASONS = 5


class ServerError(AdemBenchError):
    """A server cannot be reached, or refuses before it has answered anything."""


class _FailedError(Exception):
    """An attempt that gave no answer."""

    def __init__(
        self,
        reason: str,
        again: bool = False,
        status: int = 0,
        wait_s: float = 0,
        ended: FinishReason = "error",
    ) -> None:
        """Keep why.

        Args:
            reason: In the server's words, where it has any.
            again: Whether another attempt may fare better.
            status: Of HTTP; `UNREACHABLE` if there was no reply.
            wait_s: Seconds that the server asks to wait.
            ended: How the answer ended, where there was one.
        """
        super().__init__(reason)
        self.again = again
        self.status = status
        self.wait_s = wait_s
        self.ended = ended


def _ended(refusal: Reply) -> FinishReason:
    return "filter" if is_filtered(refusal.body) else "error"


class ServedModel(Model):
    """A model behind an OpenAI-compatible server, with several requests in flight."""

    chats = True
    decoding_fields = frozenset({"temperature", "top_p", "seed"})
    request_fields = frozenset({"parts"})

    def __init__(self, card: ModelCard, options: ModelOptions) -> None:
        """Read the card; no request is sent yet.

        Raises:
            CardError: an option is wrong, the environment holds no key, or a key would go where it
                was not meant to go.
        """
        super().__init__(card, options)
        self._settings = read_options(card)
        self._server = find_server(card, self._settings)
        self._hide = Redaction(self._server.key).hide
        self._gate = Gate()
        self._lock = threading.Lock()
        self._threads = DaemonThreadPool(self._settings.concurrency, self._ask)
        self._pending: dict[Request, list[Future[Response]]] = {}
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._answered_by: set[str] = set()
        self._has_answered = False
        self._refused: ServerError | None = None

    @property
    def continues_text(self) -> bool:
        """No: a server's model is asked in turns."""
        return False

    @property
    def cut_is_failed(self) -> bool:
        """Whether an answer that ended at `max_new_tokens` is none, as the card says."""
        return self._settings.cut_answers == "failed"

    def decoding(self, asked: Decoding) -> Decoding:
        """Return how a request is decoded; what it leaves open, `parameters` and the server say.

        Raises:
            CardError: it asks for what servers do not offer.
        """
        found = super().decoding(asked)
        # Said to the server against `parameters`, which may say otherwise.
        return replace(found, temperature=0.0) if asked.temperature == 0 else found

    @property
    def reasoning_tags(self) -> Sequence[str]:
        """The card's."""
        return self._settings.reasoning_tags

    def load_adapter_for(self, task: str, task_kind: str) -> None:
        """Count requests and failures from zero: a manifest reports those of its task."""
        self._counts.clear()
        self._reasons.clear()

    def length(self, request: Request) -> int:
        """Return the prompt's characters: the server alone knows its tokens."""
        return len(request.prompt)

    def budget(self) -> Budget:
        """Return one request at a time, and enough of them ahead to keep all threads busy.

        So each answer is on disk as soon as it is its turn, and one slow answer holds up the
        others only once all of those ahead are there.
        """
        return Budget(tokens=1 << 62, rows=1, ahead=2 * self._settings.concurrency)

    def prefetch(self, requests: Sequence[Request]) -> None:
        """Send requests; `generate` waits for the answers."""
        self._forget_refusal()
        for request in requests:
            self._pending.setdefault(request, []).append(self._threads.submit(request))

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Return the answers, asking now for what was not asked ahead.

        Raises:
            ServerError: the server cannot be reached, or it refuses every request.
        """
        self._forget_refusal()
        futures = [self._take(request) for request in requests]
        waiting = [*futures, *(future for some in self._pending.values() for future in some)]
        responses = []
        for future in futures:
            refusal = future.exception()
            if isinstance(refusal, ServerError) and any(f.exception() is None for f in waiting):
                # Answers that are there are paid for: they are handed out before the run ends.
                responses.append(Response("", error=str(refusal), finish_reason="error"))
                continue
            if isinstance(refusal, ServerError):
                self._pending.clear()
            responses.append(future.result())
        return responses

    def _forget_refusal(self) -> None:
        """Try again what was refused, once nothing waits that was sent before the refusal."""
        if not self._pending:
            self._refused = None

    def _take(self, request: Request) -> Future[Response]:
        waiting = self._pending.get(request, [])
        future = waiting.pop(0) if waiting else self._threads.submit(request)
        if not waiting:
            self._pending.pop(request, None)
        return future

    def _ask(self, request: Request) -> Response:
        """Return an answer, or why there is none, after as many attempts as it takes.

        Raises:
            ServerError: the server refuses every request; no further one is sent.
        """
        if self._refused:
            raise self._refused
        try:
            asked = request_body(self._server.model, request, self._settings)
        except UnreadableImageError as error:
            return Response("", error=str(error))
        attempts = 1 + self._settings.retries
        for attempt in range(attempts):
            try:
                answer = self._attempt(asked)
            except _FailedError as failure:
                if attempt + 1 < attempts and failure.again:
                    self._count("retries")
                    time.sleep(self._wait_s(attempt, failure))
                    continue
                return self._give_up(failure, attempt + 1)
            with self._lock:
                self._has_answered = True
                self._answered_by.add(answer.model)
            return Response(
                answer.text,
                tokens=answer.tokens,
                finish_reason=answer.finish_reason,
                reasoning=answer.reasoning,
            )
        raise AssertionError("the last attempt returns")

    def _attempt(self, asked: Mapping[str, Any]) -> Answer:
        self._gate.wait()
        self._count("requests")
        settings, url = self._settings, self._server.url + ENDPOINT
        try:
            reply = post(url, asked, self._server.key, settings.timeout)
        except UnreachableError as error:
            reason = f"cannot be reached: {clean(self._hide(str(error)))}"
            raise _FailedError(self._with_proxy(reason), True, UNREACHABLE) from error
        except BrokenOffError as error:
            raise _FailedError(self._with_proxy(str(error)), True) from error
        pause = pause_s(reply.headers)
        if pause <= settings.longest_wait:
            self._gate.hold(pause)
        if reply.status != 200:
            raise self._refusal(reply)
        try:
            return read_answer(reply.body, self._hide)
        except MalformedError as error:
            raise _FailedError(str(error), True) from error
        except UnansweredError as error:
            raise _FailedError(str(error), ended=error.finish_reason) from error
        except RefusedError as error:
            again = not error.status or error.status in TRY_AGAIN
            ended = _ended(reply)
            raise _FailedError(str(error), again, error.status, ended=ended) from error

    def _refusal(self, reply: Reply) -> _FailedError:
        said = (error_text(reply.body, self._hide), clean(self._hide(redirect_note(reply))))
        words = "; ".join(filter(None, said))
        reason = self._with_proxy(f"HTTP {reply.status}{': ' if words else ''}{words}")
        named = error_status(reply.body)
        if named in FINAL:  # which some servers send as 400 or 429
            return _FailedError(reason, status=named)
        asked_for = retry_after_s(reply.headers) or 0.0
        if asked_for > self._settings.longest_wait:
            return _FailedError(
                f"{reason} (asks to wait {asked_for:.0f} s, longer than longest_wait)"
            )
        if reply.status in BUSY:
            self._gate.hold(asked_for)
        again = reply.status in TRY_AGAIN
        return _FailedError(reason, again, reply.status, asked_for, _ended(reply))

    def _with_proxy(self, reason: str) -> str:
        note = proxy_note(self._server.url)
        return f"{reason} ({note})" if note else reason

    def _wait_s(self, attempt: int, failure: _FailedError) -> float:
        settings = self._settings
        return max(failure.wait_s, backoff_s(attempt, settings.backoff, settings.longest_wait))

    def _give_up(self, failure: _FailedError, attempts: int) -> Response:
        """Return the response without an answer.

        Raises:
            ServerError: no sample will fare better.
        """
        hopeless = failure.status in HOPELESS or failure.status == UNREACHABLE
        if failure.status in FINAL or (hopeless and not self._has_answered):
            self._refused = ServerError(
                f"{self._server.url}: {failure}; {self._remedy(failure.status)}"
            )
            raise self._refused
        with self._lock:
            self._counts["failures"] += 1
            self._reasons[str(failure)] += 1
        times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        return Response("", error=f"{failure} ({times})", finish_reason=failure.ended)

    def _remedy(self, status: int) -> str:
        if status == 402:
            return (
                "see to the account that pays; what was answered is kept, and the same command "
                "goes on from there"
            )
        key = f"the key in ${self._settings.key_variable}"
        if not self._server.key:
            key = (
                "the key: none was sent (--set model.options.key_variable=NAME sends the one in "
                "$NAME)"
            )
        return f"check the address, the model's name ({clean(self._server.model)}) and {key}"

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    @classmethod
    def price(cls, card: ModelCard, prompt_tokens: int, answer_tokens: int) -> float | None:
        """Return what so many tokens cost; None where the card has no prices.

        Args:
            card: The model's.
            prompt_tokens: Of all prompts.
            answer_tokens: Of all answers.
        """
        return read_options(card).cost(prompt_tokens, answer_tokens)

    def cost(self, prompt_tokens: int, answer_tokens: int) -> float | None:
        """Return what so many tokens cost; None where the card has no prices."""
        return self._settings.cost(prompt_tokens, answer_tokens)

    def fingerprint(self) -> str:
        """Return a digest of server, model and what is sent; the weights cannot be read."""
        settings = self._settings
        seen = {
            "model": self._server.model,
            "url": self._server.url,
            "system": settings.system,
            "parameters": settings.parameters,
            "max_tokens_field": settings.max_tokens_field,
            **stated_tags(settings.reasoning_tags),
        }
        if settings.cut_answers != "failed":
            seen["cut_answers"] = settings.cut_answers
        return digest(seen)

    def warnings(self) -> Sequence[str]:
        """Return that the weights are unverified, and why samples failed."""
        unverified = f"the weights behind {self._server.url} are known by the server's word only"
        common = self._reasons.most_common(COUNTED_REASONS)
        failed = [
            f"{count} request{'s' if count > 1 else ''} failed: {reason}"
            for reason, count in common
        ]
        return [unverified, *failed]

    def describe(self) -> Mapping[str, Any]:
        """Return server, model, counts of this call's requests, and prices."""
        settings = self._settings
        return {
            "name": self.card.name,
            "fingerprint": self.fingerprint(),
            "server": self._server.url,
            "served_model": self._server.model,
            "answered_by": sorted(self._answered_by),
            "requests": {name: self._counts[name] for name in ("requests", "retries", "failures")},
            "prices": {"input": settings.input_price, "output": settings.output_price},
        }
