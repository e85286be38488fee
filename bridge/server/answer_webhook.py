"""Asks the user's own webhook who takes a call: once, within a bound, and without harm where it fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import aiohttp
import orjson
import structlog

from bridge.agents.agent import CallInfo
from bridge.metrics import Metrics
from bridge.server.answer import Answer, BadAnswer, read_answer
from bridge.server.events.request_problem import connection_problem, tls_problem
from bridge.server.events.standard_webhooks import WebhookSigner
from bridge.server.store.answers import KeptAnswers

log = structlog.get_logger()

ANSWER_MAX_BYTES = 65536
# Labels of ``bridge_answers_total``: an answer that says something, one that leaves the call to the routes, and the
# failures.
USED, EMPTY = "used", "empty"
# Each with what to do about it.
FAILURES = {
    "timeout": "have the webhook answer sooner: the caller hears ringing meanwhile",
    "connection": "look whether the webhook runs, and at host and port in BRIDGE_ANSWER_URL",
    "tls": "correct the webhook's certificate; SSL_CERT_FILE names an authority of your own",
    "redirect": "redirects are not followed: put the address that it leads to in BRIDGE_ANSWER_URL",
    "status": "look into the webhook's own log; if it refuses the signature, it must check with BRIDGE_WEBHOOK_SECRET",
    "too_large": "shorten the answer: docs/answer.md has its fields",
    "not_json": "answer with JSON; if it is a web page, BRIDGE_ANSWER_URL leads to something else",
    "wrong": "correct the answer: docs/answer.md has its fields",
    "unknown_agent": "name the agent in BRIDGE_ANSWER_AGENTS too, or answer with one that is in use",
}


class AnswerWebhook:
    """
    Asks, and keeps each answer for webhooks of the same call that come again.

    Args:
        http: The process's session, whose connections stay open between calls.
        kept: Shares the answers with other processes.
        is_known: Whether an agent of this name can be asked.
        clock: Seconds, monotonic.
        answer_s: From the name look-up to the last byte of the answer.
    """

    def __init__(
        self,
        url: str,
        signer: WebhookSigner,
        http: aiohttp.ClientSession,
        kept: KeptAnswers,
        is_known: Callable[[str], bool],
        metrics: Metrics,
        clock: Callable[[], float],
        answer_s: float,
    ) -> None:
        self._url = url
        self._signer = signer
        self._http = http
        self._kept = kept
        self._is_known = is_known
        self._metrics = metrics
        self._clock = clock
        self._answer_s = answer_s
        for result in (USED, EMPTY, *FAILURES):
            metrics.answers.labels(result)

    async def answer_for(self, info: CallInfo, chain: Sequence[str]) -> Answer:
        """
        The answer about a call; an empty one after a failure. One request per call at a time may ask.

        Args:
            chain: The agents that the routes would try.
        """
        kept = await self._kept.find(info.call_sid)
        if kept is not None:
            return Answer.of(kept)
        answer = await self._ask(info, chain)
        await self._kept.keep(info.call_sid, asdict(answer))
        return answer

    async def _ask(self, info: CallInfo, chain: Sequence[str]) -> Answer:
        began = self._clock()
        answer, result, problem = Answer(), "", ""
        try:
            async with asyncio.timeout(self._answer_s):
                body = await self._post(info, chain)
            answer, idle = read_answer(body, self._is_known)
            result = EMPTY if answer == Answer() else USED
            if idle:
                log.warning(
                    "answer webhook: some fields have no effect",
                    call_sid=info.call_sid,
                    ignored=idle,
                    used=[name for name, value in asdict(answer).items() if value],
                )
        except BadAnswer as error:
            result, problem = error.kind, str(error)
        except TimeoutError:
            result, problem = "timeout", f"no answer within {self._answer_s:.3g} s"
        except aiohttp.ClientSSLError as error:
            result, problem = "tls", tls_problem(error)
        except (aiohttp.ClientError, OSError) as error:
            result, problem = "connection", connection_problem(error)
        self._metrics.answers.labels(result).inc()
        self._metrics.answer_s.observe(self._clock() - began)
        if problem:
            log.warning(
                "answer webhook failed, the routes decide",
                call_sid=info.call_sid,
                kind=result,
                problem=problem,
                hint=FAILURES[result],
            )
        return answer

    async def _post(self, info: CallInfo, chain: Sequence[str]) -> bytes:
        body = question(info, chain)
        headers = self._signer.headers(info.call_sid, int(time.time()), body)
        async with self._http.post(
            self._url,
            data=body,
            headers={"content-type": "application/json", **headers},
            allow_redirects=False,
        ) as response:
            if 300 <= response.status < 400:
                raise BadAnswer("redirect", f"status {response.status}")
            if not 200 <= response.status < 300:
                raise BadAnswer("status", f"status {response.status}")
            answer = bytearray()
            async for chunk in response.content.iter_any():
                answer += chunk
                if len(answer) > ANSWER_MAX_BYTES:
                    raise BadAnswer("too_large", f"more than {ANSWER_MAX_BYTES} bytes")
            return bytes(answer)


def question(info: CallInfo, chain: Sequence[str]) -> bytes:
    """The body of the request about a call."""
    return orjson.dumps(
        {
            "type": "call.incoming",
            "call_sid": info.call_sid,
            "from": info.from_number,
            "to": info.to_number,
            "form": _namespace("form.", info.values),
            "param": _namespace("param.", info.values),
            "agents": list(chain),
        }
    )


def _namespace(prefix: str, values: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(prefix): text for name, text in values.items() if name.startswith(prefix)}
