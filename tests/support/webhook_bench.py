"""Shared by the tests of webhooks: the webhooks of one process without sockets, and requests as Twilio signs them."""

import asyncio
import base64
import hmac
import time
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlencode
from xml.etree import ElementTree

from call_script import LIMITS, RecordingCaller

from bridge.agents.agent import CallInfo
from bridge.agents.hand_over import HandOver, SipAddress
from bridge.agents.health import AgentHealth
from bridge.agents.routing import Route
from bridge.agents.sessions import Session
from bridge.agents.slots import Slots
from bridge.call.ends import ENDS
from bridge.call.state import Call
from bridge.http.messages import Request, Response
from bridge.metrics import Metrics
from bridge.seal import Seal
from bridge.server.callers import Callers
from bridge.server.refusals import Refusals
from bridge.server.registry import Registry
from bridge.server.retell_webhook import RetellWebhook
from bridge.server.store.agreement import Agreement
from bridge.server.store.breaker import Breaker
from bridge.server.store.memory import MemoryStore
from bridge.server.store.store import Store
from bridge.server.store.tallies import Tallies
from bridge.server.webhooks import Webhooks
from bridge.settings import load_settings
from bridge.twilio.signature import Signatures
from bridge.twilio.tokens import ResumeState, Tokens

BASE = "https://voice.example.com/bridge"
ACCOUNT = "AC" + "1" * 32
CALL = "CA" + "2" * 32
OTHER_CALL = "CA" + "3" * 32
FORM_TYPE = "application/x-www-form-urlencoded; charset=UTF-8"
SETTINGS = {
    "PUBLIC_URL": BASE,
    "TWILIO_ACCOUNT_SID": ACCOUNT,
    "TWILIO_AUTH_TOKEN": "auth",
    "BRIDGE_AGENT": "retell",
    "RETELL_API_KEY": "key_test",
    "RETELL_AGENT_ID": "agent",
    "BRIDGE_FALLBACK": "say:Sorry",
    "BRIDGE_MAX_CALLS": "3",
}
RINGING = [
    ("CallSid", CALL),
    ("AccountSid", ACCOUNT),
    ("CallStatus", "ringing"),
    ("From", "+15551234567"),
    ("ToZip", ""),
]


class FakeSessions:
    """In place of the agents: one function answers for all of them, and the tried agents are recorded."""

    def __init__(self, open_session: Callable[[CallInfo], Awaitable[dict[str, str]]]) -> None:
        self.names: tuple[str, ...] = ("fake",)
        self.dialled: set[str] = set()
        # How calls get to agents without a socket that have no SIP address.
        self.handed_over: dict[str, HandOver] = {}
        # Routes by name, of calls that have one, and the one that fits those that have none.
        self.routes: dict[str, Route] = {}
        self.fitting: Route | None = None
        # Those of the call that the agents use.
        self.values: dict[str, str] = {}
        self.tried: list[tuple[str, ...]] = []
        # The values of the call that the agents use.
        self.used: set[str] = set()
        self._open_session = open_session
        self.health = AgentHealth(Metrics())
        self.slots = Slots(Metrics())

    def route(self, call: CallInfo) -> Route:
        fitting = self.fitting or Route(name="fake", agents=list(self.names))
        return self.routes.get(call.route, fitting)

    async def open(self, call: CallInfo, chain: Sequence[str], spent_s: float = 0.0) -> Session:
        self.tried.append(tuple(chain))
        values = {name: call.values[name] for name in self.used & call.values.keys()}
        return Session(tuple(chain), await self._open_session(call), {**self.values, **values}, call.route)

    def from_dialled(self, chain: Sequence[str]) -> tuple[str, ...]:
        places = [n for n, name in enumerate(chain) if name in self.dialled | self.handed_over.keys()]
        return tuple(chain[places[0] :]) if places else ()

    def hand_over(self, opened: Session, call: CallInfo) -> HandOver | None:
        name = opened.agents[0]
        if name in self.handed_over:
            return self.handed_over[name]
        return (
            SipAddress(f"sip:{opened.credentials['call_id']}@{name}.example")
            if name in self.dialled
            else None
        )


class Bench:
    """The webhooks of one process, without its sockets."""

    def __init__(self, store: Store | None = None, **overrides: str) -> None:
        self.settings = load_settings({**SETTINGS, **overrides}, env_file="/dev/null")
        self.tokens = Tokens(self.settings.auth_tokens, 60)
        self.metrics = Metrics()
        store = store or MemoryStore()
        shared = store, Breaker(store, self.metrics), Seal(self.settings.auth_tokens)
        self.agreement = Agreement(*shared, 10, 60)
        self.calls = Registry(self.settings.bridge_max_calls, 60, self.agreement.end)
        self.callers = Callers(
            self.settings,
            Tallies(*shared),
            self.agreement.owner,
            self.calls,
            lambda call_sid: call_sid in self.calls.admitted_calls(),
            self.metrics,
            time.monotonic,
        )
        self.asked: list[CallInfo] = []
        self.answer: Callable[[], dict[str, str]] = lambda: {
            "call_id": f"id{len(self.asked)}",
            "access_token": "x",
        }
        self.gate = asyncio.Event()
        self.gate.set()
        self.sessions = FakeSessions(self._open_session)
        signatures = Signatures(
            self.settings.auth_tokens,
            self.settings.public_url,
            self.settings.stream_base,
            self.settings.bridge_connection_overrides,
        )
        # Media IDs with the process that their socket must reach, and whether a draining process has a successor.
        self.announced: list[tuple[str, str]] = []
        self.has_other = False

        async def announce(media_id: str, owner: str) -> None:
            self.announced.append((media_id, owner))

        self.webhooks = Webhooks(
            self.settings,
            self.sessions,
            self.calls,
            self.agreement,
            self.tokens,
            signatures,
            Refusals(signatures, self.metrics, self.settings.bridge_validate_signatures, time.monotonic),
            self.callers,
            self.metrics,
            time.monotonic,
            announce,
            lambda: self.has_other,
        )
        self.retell = RetellWebhook(
            self.settings.retell_api_key.get_secret_value(), self.calls, time.monotonic
        )

    async def _open_session(self, call: CallInfo) -> dict[str, str]:
        self.asked.append(call)
        await self.gate.wait()
        return self.answer()

    async def voice(self, call_sid: str = CALL) -> Response:
        return await self.webhooks.voice(twilio("/voice", with_call_sid(call_sid)))

    async def resume(self, call_sid: str = CALL, state: str | None = None) -> Response:
        text = state if state is not None else self.tokens.seal_resume(ResumeState(call_sid, 0, 0, []))
        return await self.webhooks.resume(twilio("/voice/resume", with_call_sid(call_sid), query=f"s={text}"))

    async def go_live(self, call_sid: str = CALL) -> Call:
        """Answer the webhook and claim the call, as its media socket does."""
        token = self.tokens.open_media(parameters_of(await self.voice(call_sid)))
        call = Call(LIMITS, self, 0.0)
        call.attach(RecordingCaller([]))
        call.call_sid = token.call_sid
        assert self.calls.claim(token.call_sid, token.media_id, Session.of(token.session), call) is None
        return call

    def on_call_bridged(self, call: Call) -> None: ...

    def on_agent_replaced(self, call: Call, old: object, new: object, detail: str) -> None: ...

    def on_caller_kept(self, call: Call, kept: object, lost_s: float, detail: str) -> None: ...

    def on_twilio_asked(self, call: Call) -> None: ...
    def on_fault(self, call: Call, fault: Exception) -> None:
        raise fault

    def on_call_closed(self, call: Call) -> None:
        call.close_caller()
        outcome = ENDS[call.why].outcome
        if outcome is not None:
            self.calls.finish(call.call_sid, outcome, 0.0)

    def refused(self, reason: str) -> float | None:
        return self.metrics.registry.get_sample_value("bridge_calls_refused_total", {"reason": reason})


def with_call_sid(call_sid: str) -> list[tuple[str, str]]:
    return [("CallSid", call_sid), *RINGING[1:]]


def sign(url: str, pairs: list[tuple[str, str]], token: str = "auth") -> str:
    text = url + "".join(name + value for name, value in sorted(set(pairs)))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), "sha1").digest()).decode()


def twilio(path: str, pairs: list[tuple[str, str]], query: str = "", **changes: object) -> Request:
    """A request as Twilio makes it; ``changes`` are of headers, by name with underscores, None for left out."""
    url = BASE + path + (f"?{query}" if query else "")
    headers = {"content-type": FORM_TYPE, "x-twilio-signature": sign(url, pairs)}
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    sent = {
        name: value if isinstance(value, tuple) else (value,)
        for name, value in headers.items()
        if value is not None
    }
    return Request("POST", path, query, sent, urlencode(pairs).encode(), "127.0.0.1")


def verbs(response: Response) -> list[str]:
    assert response.status == 200
    assert response.content_type.startswith("text/xml")
    return [element.tag for element in ElementTree.fromstring(response.body)]


def parameters_of(response: Response) -> dict[str, str]:
    root = ElementTree.fromstring(response.body)
    return {element.attrib["name"]: element.attrib["value"] for element in root.iter("Parameter")}


FALLBACK = ["Say", "Hangup"]
STREAM = ["Connect", "Redirect"]
