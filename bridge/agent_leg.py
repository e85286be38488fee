"""The agent's side: the socket to the agent service, from the connect to the close."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import ClassVar

import picows
import structlog
from aiohappyeyeballs import start_connection

from _codec import Handshake, is_base64
from bridge.agents import AgentSocket, Audio, Control, Endpoint, Ignored, decoded_bytes
from bridge.call import Call, Why
from bridge.leg import Leg, LegLimits
from bridge.metrics import Metrics
from bridge.transcoder import Transcoder

log = structlog.get_logger()

# Until the agent's first frame; picows doubles it when a read fills it.
READ_BUFFER_BYTES = 4096
# RFC 8305 5: the recommended delay between attempts.
HAPPY_EYEBALLS_S = 0.25


class AgentLeg(Leg):
    """
    Turns the agent's messages into events of the call, and the call's commands into messages to the agent.

    Args:
        format: What goes through the agent's socket.
        endpoint: That socket for this call.
        connect_s: Deadline of DNS, TCP, TLS and upgrade together.
        tls: The process's TLS settings, made once: making them takes 20 ms.
    """

    side: ClassVar[str] = "agent"
    is_client: ClassVar[bool] = True

    def __init__(
        self,
        format: AgentSocket,
        endpoint: Endpoint,
        call: Call,
        limits: LegLimits,
        clock: Callable[[], float],
        *,
        connect_s: float,
        tls: ssl.SSLContext,
        metrics: Metrics,
        on_gone: Callable[[Leg], None],
    ) -> None:
        super().__init__(call, limits, clock, on_gone)
        self.wire.set_format(format.audio, format.to_agent)
        self._format = format
        self._endpoint = endpoint
        self._connect_s = connect_s
        self._tls = tls
        self._metrics = metrics
        self._connecting: asyncio.Task[None] | None = None
        self._tcp: socket.socket | None = None
        self._transcoder: Transcoder | None = None
        self._has_warned = False

    # Opening

    def connect(self) -> None:
        self._connecting = asyncio.get_running_loop().create_task(self._connect(), name="agent connect")

    async def _connect(self) -> None:
        detail = ""
        try:
            async with asyncio.timeout(self._connect_s):
                await picows.ws_connect(
                    lambda: Handshake(self.wire, self.open),
                    self._endpoint.url,
                    ssl_context=self._tls,
                    websocket_handshake_timeout=self._connect_s,
                    max_frame_size=self.limits.max_message_bytes,
                    extra_headers=dict(self._endpoint.headers),
                    # Redirects would carry the credential to another host.
                    max_redirects=0,
                    socket_factory=self._open_tcp,
                    read_buffer_init_size=READ_BUFFER_BYTES,
                    # The wire answers pings; the first frame of all must come up, for there it takes over.
                    enable_auto_pong=False,
                    ssl_shutdown_timeout=self.limits.close_s
                    if self._endpoint.url.startswith("wss:")
                    else None,
                )
        except asyncio.CancelledError:
            self._cut_handshake()
            raise
        except TimeoutError:
            detail = f"not open within {self._connect_s:g} s"
        except picows.WSInvalidStatusError as error:
            detail = f"upgrade refused: {error.response.status if error.response else 'no status'}"
        except (OSError, picows.WSError) as error:
            # Their texts may hold the answer of the peer, or the URL with the call's credential.
            detail = f"cannot open: {type(error).__name__}"
        except Exception as error:
            # Nobody else awaits this task: whatever it meets must end the call.
            log.exception("fault while the agent's socket was opened", call_sid=self.call.call_sid)
            detail = f"cannot open: {type(error).__name__}"
        if self._transport is not None:
            return
        self._cut_handshake()
        # picows returns without an error where the peer closes before it answers the upgrade.
        self._closing_since = self._clock()
        self._leave()
        self.call.on_agent_lost(self._clock(), detail=detail or "closed before the upgrade")

    async def _open_tcp(self, url: picows.WSParsedURL) -> socket.socket:
        # Of our own, so that `_cut_handshake` can reach it; and a dead first address costs a quarter second.
        found = await asyncio.get_running_loop().getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
        self._tcp = await start_connection(found, happy_eyeballs_delay=HAPPY_EYEBALLS_S)
        return self._tcp

    def _cut_handshake(self) -> None:
        # picows leaves the socket of a cancelled handshake open until its own deadline.
        if self._tcp is not None and self._transport is None:
            with contextlib.suppress(OSError):
                self._tcp.shutdown(socket.SHUT_RDWR)

    def open(self, transport: asyncio.Transport) -> None:
        self._tcp = None
        super().open(transport)
        if self._closing_since is None:
            self.call.on_agent_open(self._clock())
            self.wire.set_ready()

    def close(self, code: int) -> None:
        super().close(code)
        if self._transport is None and self._connecting is not None:
            self._connecting.cancel()
            # Here, not in the task: one that is cancelled before its first step never comes to its own clean-up.
            self._leave()

    # The agent's messages

    def read_audio(self, payload: bytes) -> None:
        self.call.on_agent_audio(payload, decoded_bytes(payload), self._clock)

    def read_text(self, message: bytes) -> None:
        match self._format.parse(message):
            case Control.INTERRUPT:
                self._on_interrupt()
            case Control.ENDED:
                self.call.on_agent_ended(self._clock())
            case Audio() as audio:
                self._on_audio(audio)
            case Ignored(reason):
                self.on_ignored(reason)

    def _on_interrupt(self) -> None:
        began = self._clock()
        self.call.on_interrupt()
        self._metrics.interrupt_to_clear(self._clock() - began)

    def _on_audio(self, audio: Audio) -> None:
        if not is_base64(audio.payload):
            self.on_ignored("not_base64")
            return
        payload = audio.payload
        if (audio.encoding, audio.sample_rate_hz) != ("mulaw", 8000):
            self._warn_of_audio(audio)
            if not Transcoder.can_take(audio):
                self.on_ignored("unknown_audio")
                return
            if self._transcoder is None or not self._transcoder.takes(audio):
                self._transcoder = Transcoder(audio)
            payload = self._transcoder.to_mulaw(payload)
        self.call.on_agent_audio(payload, decoded_bytes(payload), self._clock)

    def _warn_of_audio(self, audio: Audio) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "agent sends audio that is not mu-law 8000 Hz: it costs, or is lost; set the agent to it",
                encoding=audio.encoding[:40],
                sample_rate_hz=audio.sample_rate_hz,
                is_lost=not Transcoder.can_take(audio),
                call_sid=self.call.call_sid,
            )

    def on_ignored(self, reason: str) -> None:
        self._metrics.ignored(self.side, reason)

    # The end of the peer

    def end_by_peer(self, code: int | None, detail: str) -> None:
        if code == 1000:
            self.call.on_agent_ended(self._clock())
        else:
            self.call.on_agent_lost(self._clock(), detail=detail)

    def end_by_violation(self, code: int, detail: str) -> None:
        self.call.on_agent_lost(self._clock(), Why.AGENT_VIOLATION, f"{code} {detail}")

    def end_by_fault(self) -> None:
        self.call.end(Why.FAULT, self._clock())
