"""The fields of Twilio's REST resources, each with what a new one has there."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

BASE = "/2010-04-01/Accounts"
ACCOUNT_PARTS = ("Calls", "IncomingPhoneNumbers", "Recordings", "Keys", "Balance")
CALL_PARTS = ("Notifications", "Recordings", "Streams", "Events")


def account_fields(sid: str, status: str, kind: str) -> dict[str, Any]:
    """An account of this type: ``Full`` or ``Trial``."""
    return {
        # Empty: the bridge has no use for it, and whoever prints it prints no secret.
        "auth_token": "",
        "date_created": formatdate(usegmt=True),
        "date_updated": formatdate(usegmt=True),
        "friendly_name": "Acme",
        "owner_account_sid": sid,
        "sid": sid,
        "status": status,
        "subresource_uris": {part.lower(): f"{BASE}/{sid}/{part}.json" for part in ACCOUNT_PARTS},
        "type": kind,
        "uri": f"{BASE}/{sid}.json",
    }


def call_fields(account_sid: str, sid: str, status: str) -> dict[str, Any]:
    """An inbound call."""
    uri = f"{BASE}/{account_sid}/Calls/{sid}"
    nothing = (
        *("parent_call_sid", "phone_number_sid", "end_time", "duration", "price", "answered_by"),
        *("forwarded_from", "group_sid", "caller_name", "trunk_sid"),
    )
    return {
        **dict.fromkeys(nothing),
        "sid": sid,
        "account_sid": account_sid,
        "api_version": "2010-04-01",
        "date_created": formatdate(usegmt=True),
        "date_updated": formatdate(usegmt=True),
        "start_time": formatdate(usegmt=True),
        "direction": "inbound",
        "from": "+14155550100",
        "from_formatted": "(415) 555-0100",
        "to": "+14155550199",
        "to_formatted": "(415) 555-0199",
        "price_unit": "USD",
        "queue_time": "0",
        "status": status,
        "subresource_uris": {part.lower(): f"{uri}/{part}.json" for part in CALL_PARTS},
        "uri": f"{uri}.json",
    }


def recording_fields(account_sid: str, call_sid: str, sid: str, channels: int) -> dict[str, Any]:
    """A recording of a call that is going on."""
    return {
        **dict.fromkeys(
            ("conference_sid", "price", "price_unit", "duration", "error_code", "encryption_details")
        ),
        "account_sid": account_sid,
        "api_version": "2010-04-01",
        "call_sid": call_sid,
        "channels": channels,
        "date_created": formatdate(usegmt=True),
        "date_updated": formatdate(usegmt=True),
        "start_time": formatdate(usegmt=True),
        "sid": sid,
        "source": "StartCallRecordingAPI",
        "status": "in-progress",
        "track": "both",
        "uri": f"{BASE}/{account_sid}/Calls/{call_sid}/Recordings/{sid}.json",
    }


def number_fields(account_sid: str, sid: str, number: str) -> dict[str, Any]:
    """A local number as it is bought: its voice URL is Twilio's demonstration."""
    nothing = (
        *("address_sid", "identity_sid", "trunk_sid", "emergency_address_sid", "bundle_sid"),
        *("voice_fallback_url",),
    )
    return {
        **dict.fromkeys(nothing),
        "account_sid": account_sid,
        "address_requirements": "none",
        "api_version": "2010-04-01",
        "beta": False,
        "capabilities": {"voice": True, "sms": True, "mms": True, "fax": False},
        "date_created": formatdate(usegmt=True),
        "date_updated": formatdate(usegmt=True),
        "emergency_status": "Inactive",
        "emergency_address_status": "unregistered",
        "friendly_name": number,
        "origin": "twilio",
        "phone_number": number,
        "sid": sid,
        "sms_application_sid": "",
        "sms_fallback_method": "POST",
        "sms_fallback_url": "",
        "sms_method": "POST",
        "sms_url": "",
        "status": "in-use",
        "status_callback": "",
        "status_callback_method": "POST",
        "type": "local",
        "uri": f"{BASE}/{account_sid}/IncomingPhoneNumbers/{sid}.json",
        "voice_application_sid": "",
        "voice_caller_id_lookup": False,
        "voice_fallback_method": "POST",
        "voice_method": "POST",
        "voice_receive_mode": "voice",
        "voice_url": "https://demo.twilio.com/welcome/voice/",
    }
