"""What values of settings mean together, and values that can never carry a call."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr

from bridge.agents.setting_types import missing
from bridge.setting_fields import SettingFields
from bridge.setting_region import EDGES
from bridge.setting_values import MAKE_ONE, secrets_of, store_problem
from bridge.tls_files import TlsFilesError, server_tls

# Ends of the URLs of webhooks and sockets, which are not part of the bridge's address.
PATHS = ("/voice", "/voice/resume", "/voice/dialled", "/voice/status", "/stream/status", "/media")
# Names that no public look-up finds (RFC 6762, RFC 8375, ICANN's .internal) or that documents use (RFC 2606).
PRIVATE_NAMES = (".local", ".internal", ".lan", ".home.arpa", ".localdomain")
EXAMPLE_NAMES = re.compile(r"(.*\.)?(example\.(com|net|org)|example|test|invalid)")
# What stands in documents where a value belongs.
PLACEHOLDER = re.compile(
    r"<[^<>]+>|\$?\{[^{}]+\}|.*(your|my)[ _-]?(auth|api|account|twilio|secret|key|token|agent).*"
    r"|changeme|change[_-]me|todo|x{3,}|\*{3,}|\.{3}|…|(sk|key)[_-](\.{3}|…|x{3,})",
    re.IGNORECASE,
)
QUOTES = "\"'`“”‘’"


class Finding(NamedTuple):
    """A setting's name in lower case, and a sentence that says what to change."""

    name: str
    text: str


def problems_of_values(s: SettingFields) -> list[Finding]:
    """The values that prevent the start: with them no call can work."""
    found = [
        *_missing(s),
        *_problems_of_url(s),
        *_problems_of_webhooks(s),
        *_problems_of_tls(s),
        *_problems_of_api(s),
        *_problems_of_recordings(s),
    ]
    if problem := store_problem(s.bridge_store.get_secret_value()):
        found.append(_finding("bridge_store", problem))
    if s.bridge_hold_from_caller_ms < s.bridge_agent_connect_s * 1000:
        text = (
            f"must be at least {s.bridge_agent_connect_s * 1000:g}, which is BRIDGE_AGENT_CONNECT_S in ms, or the "
            "caller's first words are lost while the agent's socket opens"
        )
        found.append(_finding("bridge_hold_from_caller_ms", text))
    return found


def doubtful_values(s: SettingFields) -> list[str]:
    """Sentences about values that are right in development only."""
    if not s.bridge_validate_signatures or not s.public_url:
        return []
    url = urlsplit(s.public_url)
    host = url.hostname or ""
    if is_loopback(host):
        return [
            "PUBLIC_URL: is this machine's own address, which stand-ins can reach and Twilio cannot: put the public "
            "one for phone calls"
        ]
    found = []
    if EXAMPLE_NAMES.fullmatch(host):
        found.append(
            f"PUBLIC_URL: {host} is a name of documents and tests, and Twilio cannot reach it: put your own"
        )
    if (lower := url._replace(netloc=url.netloc.lower()).geturl()) != s.public_url:
        text = f"signatures fail unless the webhook at Twilio is written so too: {lower} is safer"
        found.append(f"PUBLIC_URL: has upper case in its host: {text}")
    return found


def problem_of_text(text: str) -> str | None:
    """Say why a key, token or ID cannot be meant; None if nothing is wrong with its form."""
    if text[0] in QUOTES or text[-1] in QUOTES:
        return "has quotes around it, which are taken for a part of it: leave them out"
    if text != text.strip() or re.search(r"[\x00-\x1f\x7f]", text):
        return "has a space or a line break at an end, or a control character: leave it out"
    if PLACEHOLDER.fullmatch(text):
        return "is still the placeholder of an example: put the real value"
    return None


def problems_of_texts(texts: Iterable[tuple[str, object]]) -> list[Finding]:
    """What is wrong with values that are keys, tokens or IDs, by name in lower case; others are passed over."""
    found = []
    for name, value in texts:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        is_key = isinstance(value, SecretStr) or name.endswith("_id")
        if not is_key or not isinstance(text, str):
            continue
        # Several auth tokens have commas between, and spaces beside those are no fault.
        parts = [part.strip() for part in text.split(",")] if name == "twilio_auth_token" else [text]
        problems = [problem for part in parts if part and (problem := problem_of_text(part))]
        found += [_finding(name, problem) for problem in problems[:1]]
    return found


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    address = _address(host)
    return host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback)


def _missing(s: SettingFields) -> Iterable[Finding]:
    if not s.bridge_validate_signatures:
        return
    values = {
        "public_url": s.public_url,
        "twilio_account_sid": s.twilio_account_sid,
        "twilio_auth_token": s.twilio_auth_token.get_secret_value().strip(" ,"),
    }
    for name, value in values.items():
        if not value:
            yield _finding(name, missing(type(s).model_fields[name].description))


def _problems_of_url(s: SettingFields) -> Iterable[Finding]:
    if not s.bridge_validate_signatures or not s.public_url:
        return
    url = urlsplit(s.public_url)
    host = url.hostname or ""
    if is_loopback(host):
        return
    address = _address(host)
    if (
        (address is not None and not address.is_global)
        or host.endswith(PRIVATE_NAMES)
        or "." not in host + ":"
    ):
        text = f"{host} is an address of a private network, which Twilio cannot reach: put the public one"
        yield _finding("public_url", text)
    if url.scheme != "https":
        text = "must begin with https://: Twilio opens the media socket over TLS only, and TLS may end at a proxy"
        yield _finding("public_url", text)
    if path := next((path for path in PATHS if url.path.endswith(path)), None):
        text = (
            f"must end before {path}, which is the webhook's own path: put {s.public_url.removesuffix(path)}"
        )
        yield _finding("public_url", text)


def _problems_of_webhooks(s: SettingFields) -> Iterable[Finding]:
    """What is wrong with the user's own webhooks: the requests have data of a caller."""
    if s.bridge_answer_agents and not s.bridge_answer_url:
        yield _finding("bridge_answer_url", "is missing: only its answers use BRIDGE_ANSWER_AGENTS")
    signs_all = bool(secrets_of(s.bridge_webhook_secret))
    signs = {
        "bridge_answer_url": ("bridge_webhook_secret", signs_all),
        "bridge_events_url": ("bridge_events_secret", signs_all or bool(secrets_of(s.bridge_events_secret))),
    }
    for name, (secret, is_signed) in signs.items():
        url = urlsplit(getattr(s, name))
        if not url.geturl():
            continue
        if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.hostname or "")):
            text = (
                "must begin with https://, or with http:// and name this machine, e.g. http://127.0.0.1:8080/"
            )
            yield _finding(name, text)
        if not is_signed:
            text = f"is missing: requests to {name.upper()} are signed with it; to make one: {MAKE_ONE}"
            yield _finding(secret, text)


def _problems_of_tls(s: SettingFields) -> Iterable[Finding]:
    if bool(s.bridge_tls_cert) != bool(s.bridge_tls_key):
        missing = "bridge_tls_key" if s.bridge_tls_cert else "bridge_tls_cert"
        yield _finding(missing, "is missing: certificate and key go together")
        return
    try:
        server_tls(s.bridge_tls_cert, s.bridge_tls_key, s.bridge_tls_key_password.get_secret_value())
    except TlsFilesError as error:
        yield Finding(error.setting.lower(), str(error))


def _problems_of_api(s: SettingFields) -> Iterable[Finding]:
    if bool(s.twilio_api_key_sid) != bool(s.twilio_api_key_secret.get_secret_value()):
        missing = "twilio_api_key_secret" if s.twilio_api_key_sid else "twilio_api_key_sid"
        yield _finding(missing, "is missing: an API key is its SID and its secret")
    if (s.twilio_region or s.twilio_edge) and "twilio_api_url" in s.model_fields_set:
        text = "must not be set beside TWILIO_REGION or TWILIO_EDGE, which say where the REST API is"
        yield _finding("twilio_api_url", text)
    if s.twilio_region and not s.twilio_edge and s.twilio_region not in EDGES:
        text = (
            f"is missing: the edge of the region {s.twilio_region} is not known here: set it, or correct "
            f"TWILIO_REGION; known regions are {', '.join(EDGES)}"
        )
        yield _finding("twilio_edge", text)


def _problems_of_recordings(s: SettingFields) -> Iterable[Finding]:
    path = s.bridge_record_dir
    if path and not (Path(path).is_dir() and os.access(path, os.W_OK | os.X_OK)):
        text = "must be a directory that this process may write in: make it, for this user alone (mode 0700)"
        yield _finding("bridge_record_dir", text)
    if s.bridge_record_format == "opus" and find_spec("soundfile") is None:
        text = "opus needs another package: pip install 'voice-bridge[opus]', or set wav"
        yield _finding("bridge_record_format", text)


def _finding(name: str, text: str) -> Finding:
    return Finding(name, f"{name.upper()}: {text}")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
