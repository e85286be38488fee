"""The forms that Twilio posts: what is signed, and of one call of this account, is read."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import parse_qsl

from multidict import MultiDict

from bridge.agents.agent import CallInfo
from bridge.http.messages import BAD_REQUEST, Request, Response
from bridge.server.form_fields import CALL_SID, fields_of
from bridge.server.refusals import Refusals
from bridge.settings import Settings
from bridge.twilio.signature import Signatures

NOT_A_FORM = Response(415, b"415 Unsupported Media Type: application/x-www-form-urlencoded is wanted\n")


def call_info(
    form: MultiDict[str], query: str = "", kept: Mapping[str, str] = MappingProxyType({}), route: str = ""
) -> CallInfo:
    """
    The call of a form, with the values of the form and of the webhook's URL.

    Args:
        query: Of the webhook's URL.
        kept: Values from an earlier webhook of the call, which win.
        route: The name of the route that the call got there.
    """
    values = {f"form.{name}": text for name, text in form.items()}
    values |= {f"param.{name}": text for name, text in parse_qsl(query, keep_blank_values=True)}
    return CallInfo(form["CallSid"], form.get("From", ""), form.get("To", ""), {**values, **kept}, route)


class Forms:
    """Reads the forms of requests."""

    def __init__(self, settings: Settings, signatures: Signatures, refusals: Refusals) -> None:
        self._settings = settings
        self._signatures = signatures
        self._refusals = refusals

    def read(self, request: Request) -> MultiDict[str] | Response:
        """The form of a request that Twilio signed and that names one call of this account, or the refusal."""
        form = self.read_signed(request)
        if isinstance(form, Response):
            return form
        # The signed text joins names and values without a separator, so a form split elsewhere has the same
        # signature. The SIDs count only in their exact shape and once.
        call_sids = form.getall("CallSid", [])
        if len(call_sids) != 1 or not CALL_SID.fullmatch(call_sids[0]):
            return self._refusals.webhook(request, "call_sid", form)
        account_sid = self._settings.twilio_account_sid
        if account_sid and form.getall("AccountSid", []) != [account_sid]:
            return self._refusals.webhook(request, "account_sid", form)
        return form

    def read_signed(self, request: Request) -> MultiDict[str] | Response:
        """The form of a request that was signed with an auth token of the account, or the refusal."""
        signature = request.header("x-twilio-signature")
        if self._settings.bridge_validate_signatures and not signature:
            return self._refusals.webhook(request, "signature")
        content_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
        if content_type != "application/x-www-form-urlencoded":
            self._refusals.misdirected(request, request.path, NOT_A_FORM.status)
            return NOT_A_FORM
        try:
            form = fields_of(request.body)
        except ValueError:
            self._refusals.misdirected(request, request.path, BAD_REQUEST.status)
            return BAD_REQUEST
        if self._settings.bridge_validate_signatures and not self._signatures.is_webhook(
            request.path, request.query, form, signature
        ):
            return self._refusals.webhook(request, "signature", form)
        return form
