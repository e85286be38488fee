"""Opens the socket to an agent: TCP, TLS and the WebSocket upgrade."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping

import picows
from aiohappyeyeballs import start_connection

from _codec.resume import TLS_BUFFER_BYTES
from bridge.agents.agent import Endpoint, SessionError
from bridge.agents.succession import STATUS_KINDS, FailureKind

# Initial size; picows doubles it when a read fills it.
READ_BUFFER_BYTES = 4096
# Bounds what the kernel takes of an agent that is not read, which no budget counts; it would grow to megabytes.
RECEIVE_BUFFER_BYTES = 262_144
# RFC 8305 5: the recommended delay between connection attempts.
HAPPY_EYEBALLS_S = 0.25
# Some firewalls refuse a client that does not say what it is, and picows sends no name.
USER_AGENT = "voice-bridge"


class NotOfferedError(picows.WSError):
    """The agent's 101 names what the request does not offer; the text quotes nothing of it."""


class TooLate(picows.WSListener):
    """Ends a connection whose leg has not waited for it."""

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        transport.disconnect(graceful=False)


class AgentSocket:
    """
    One attempt to open the socket to an agent.

    Args:
        tls: The client's settings.
        connect_s: Deadline for the handshake, which the caller bounds too.
        close_s: Deadline for the end of TLS.
        max_message_bytes: The longest message of the agent.
    """

    def __init__(self, tls: ssl.SSLContext, connect_s: float, close_s: float, max_message_bytes: int) -> None:
        self._tls = tls
        self._connect_s = connect_s
        self._close_s = close_s
        self._max_message_bytes = max_message_bytes
        # The socket during the handshake, when no transport has it yet.
        self._tcp: socket.socket | None = None

    async def open(self, endpoint: Endpoint, listener: Callable[[], picows.WSListener | None]) -> None:
        """
        Connect, and give the connection to the listener; None: nobody waits for it any more.

        Raises:
            OSError: No connection, or a certificate that is refused.
            picows.WSError: The upgrade is refused, or not what RFC 6455 allows.
        """
        is_tls = endpoint.url.startswith("wss:")

        def check(_: object, response: picows.WSUpgradeResponse) -> picows.WSListener:
            found = listener()
            if found is None:
                return TooLate()
            _check_offered(response, endpoint.headers)
            return found

        try:
            await picows.ws_connect(
                check,
                endpoint.url,
                ssl_context=self._tls,
                websocket_handshake_timeout=self._connect_s,
                max_frame_size=self._max_message_bytes,
                extra_headers=_headers(endpoint.headers),
                # Redirects would carry the credential to another host.
                max_redirects=0,
                socket_factory=self._open_tcp,
                read_buffer_init_size=READ_BUFFER_BYTES,
                # The wire answers pings. The first frame must come up unread, because the wire takes over there.
                enable_auto_pong=False,
                ssl_incoming_bio_size=TLS_BUFFER_BYTES if is_tls else None,
                ssl_outgoing_bio_size=TLS_BUFFER_BYTES if is_tls else None,
                ssl_shutdown_timeout=self._close_s if is_tls else None,
            )
        except (OSError, picows.WSError) as error:
            # picows' connection keeps the error, and the frames of the error's traceback keep the connection and
            # the listener: a cycle.
            raise error.with_traceback(None) from None

    async def _open_tcp(self, url: picows.WSParsedURL) -> socket.socket:
        # Opened here so that `cut` can reach it. A dead first address costs only a quarter second.
        found = await asyncio.get_running_loop().getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
        self._tcp = await start_connection(found, happy_eyeballs_delay=HAPPY_EYEBALLS_S)
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        return self._tcp

    def hand_over(self) -> None:
        """Leave the socket to the transport that has it now."""
        self._tcp = None

    def cut(self) -> None:
        """End a handshake at once: picows leaves a cancelled one open until its own deadline."""
        if self._tcp is not None:
            with contextlib.suppress(OSError):
                self._tcp.shutdown(socket.SHUT_RDWR)


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    names = {name.lower() for name in given}
    return dict(given) if "user-agent" in names else {"User-Agent": USER_AGENT, **given}


def why_not_open(error: Exception) -> str:
    """Say why a socket did not open, without what may hold the peer's response or the URL with its credential."""
    match error:
        case SessionError():
            return f"no session: {error}"
        case picows.WSInvalidStatusError():
            return f"upgrade refused: {error.response.status if error.response else 'no status'}"
        case ssl.SSLCertVerificationError():
            return f"certificate refused: {error.verify_message}"
        case NotOfferedError():
            return f"upgrade refused: {error}"
    return f"cannot open: {type(error).__name__}"


def why_lost(error: Exception) -> FailureKind:
    """Say what the reason of a socket that did not open means for another session of the same agent."""
    if isinstance(error, SessionError):
        return error.kind
    if isinstance(error, picows.WSInvalidStatusError) and error.response is not None:
        return STATUS_KINDS.get(int(error.response.status), FailureKind.LOST)
    return FailureKind.LOST


def _check_offered(response: picows.WSUpgradeResponse, sent: Mapping[str, str]) -> None:
    # RFC 6455 4.1: the client fails the connection where the 101 names what the request does not offer.
    if any(response.headers.getall("Sec-WebSocket-Extensions", ())):
        raise NotOfferedError("the agent names an extension, and none was offered")
    offered = {
        protocol.strip()
        for name, protocols in sent.items()
        if name.lower() == "sec-websocket-protocol"
        for protocol in protocols.split(",")
    }
    if not offered.issuperset(response.headers.getall("Sec-WebSocket-Protocol", ())):
        raise NotOfferedError("the agent names a subprotocol that was not offered")
