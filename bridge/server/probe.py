"""
Answers `bridge check`, which asks through ``PUBLIC_URL`` whether a bridge with the same auth token is behind it.

Both requests are signed as Twilio's are, and open nothing. Whoever has no auth token learns no more than from any
other webhook.
"""

from __future__ import annotations

import asyncio
import re

import picows

from bridge.http.messages import BAD_REQUEST, FORBIDDEN, Request, Response
from bridge.seal import CHECK_NONCE_HEADER, proofs
from bridge.server.forms import Forms
from bridge.server.refusals import Refusals
from bridge.settings import Settings
from bridge.twilio.signature import Signatures

NONCE = re.compile(r"[0-9a-f]{32}")
# For the peer's answer to a close.
CLOSE_S = 2.0


class Probe:
    """Proves to whoever has the auth token that this process has it too."""

    def __init__(self, settings: Settings, forms: Forms, signatures: Signatures, refusals: Refusals) -> None:
        # Without signatures anyone could ask.
        self._secrets = settings.auth_tokens if settings.bridge_validate_signatures else []
        self._forms = forms
        self._signatures = signatures
        self._refusals = refusals

    async def voice(self, request: Request) -> Response:
        """The proof for the nonce in a signed form."""
        if not self._secrets:
            return FORBIDDEN
        form = self._forms.read_signed(request)
        if isinstance(form, Response):
            return form
        nonces = form.getall("Nonce", [])
        if len(nonces) != 1 or not NONCE.fullmatch(nonces[0]):
            return BAD_REQUEST
        return Response(200, "\n".join(proofs(self._secrets, "voice", nonces[0])).encode())

    def upgrade(self, path: str, request: Request) -> picows.WSListener | Response:
        """A socket that says the proof for the nonce in a header of the signed upgrade, and closes."""
        if not self._secrets or request.query:
            return FORBIDDEN
        if not self._signatures.is_upgrade(path, request.header("x-twilio-signature")):
            return self._refusals.upgrade(request, path)
        nonce = request.header(CHECK_NONCE_HEADER) or ""
        if not NONCE.fullmatch(nonce):
            return BAD_REQUEST
        return _Proof("\n".join(proofs(self._secrets, "media", nonce)).encode())


class _Proof(picows.WSListener):
    """Sends one text and closes; a peer that does not answer the close is cut off."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        # Set while the socket is open.
        self._cut: asyncio.TimerHandle | None = None

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        transport.send(picows.WSMsgType.TEXT, self._text)
        transport.send_close(picows.WSCloseCode.OK)
        self._cut = asyncio.get_running_loop().call_later(CLOSE_S, transport.disconnect, False)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        # The answer to the close, or what nobody asked for.
        transport.disconnect()

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        if self._cut is not None:
            self._cut.cancel()
