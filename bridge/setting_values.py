"""What the values of the process's own settings may be, beside the types that agents use too."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, SecretStr

# Makes a secret for webhooks in a shell.
MAKE_ONE = "echo whsec_$(openssl rand -base64 32)"


def _account_sid(text: str) -> str:
    if not re.fullmatch(r"(AC[0-9a-f]{32})?", text):
        raise ValueError("must be AC and 32 hex digits, from Twilio's console")
    return text


def _api_key_sid(text: str) -> str:
    if not re.fullmatch(r"(SK[0-9a-f]{32})?", text):
        raise ValueError("must be SK and 32 hex digits, from Twilio's console")
    return text


def _twilio_place(text: str) -> str:
    if not re.fullmatch(r"([a-z0-9][a-z0-9-]{1,15})?", text):
        raise ValueError("must be at most 16 lower-case letters, digits and hyphens, e.g. ie1 or dublin")
    return text


def _workers(text: str) -> str:
    if text != "auto" and not re.fullmatch(r"[1-9][0-9]?", text):
        raise ValueError("must be a number from 1 to 99, or auto")
    return text


def _names(text: str) -> str:
    if not all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in text.split(",")):
        raise ValueError(
            "must be the name of an agent, or several with commas and no spaces between, which are tried in turn"
        )
    return text


def _numbers(text: str) -> str:
    if not all(re.fullmatch(r"\+[1-9][0-9]{0,14}", number) for number in text.split(",") if text):
        raise ValueError(
            "must be numbers or their first digits, each with + and the country's code, and commas between, e.g. "
            "+4930,+14155550100"
        )
    return text


def _node_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,63}", text):
        raise ValueError("must be at most 63 letters, digits, dots, hyphens and underscores")
    return text


def _webhook_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        _ = parts.port
        host = parts.hostname or ""
        host.encode("idna")
    except ValueError:
        raise ValueError("must be a URL, e.g. https://example.com/bridge") from None
    if not host or re.search(r"[\s\x00-\x20]", text) or "@" in parts.netloc or "#" in text:
        raise ValueError("must be a URL without user, fragment and spaces")
    return text


def secrets_of(texts: SecretStr) -> list[str]:
    """Secrets with commas between; during a rotation the newest comes first."""
    return [text for text in (text.strip() for text in texts.get_secret_value().split(",")) if text]


def _webhook_secrets(secrets: SecretStr) -> SecretStr:
    if not all(map(_is_webhook_secret, secrets_of(secrets))):
        raise ValueError(
            "must be whsec_ and the base64 of 24 to 64 bytes, or several with commas between; to make one: "
            f"{MAKE_ONE}"
        )
    return secrets


def _is_webhook_secret(text: str) -> bool:
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return text.startswith("whsec_") and 24 <= len(key) <= 64


STORE_URLS = re.compile(
    r"(memory|sqlite:[^\x00]+"
    r"|rediss?://([^@/?#]*@)?(?P<host>(\[[0-9a-fA-F:]+\]|[^@/:?#\s]+)(:[0-9]+)?)(/[0-9]*)?(\?.*)?"
    r"|redis\+sentinel://([^@/?#]*@)?(?P<hosts>[^@/:,?#\s]+(:[0-9]+)?(,[^@/:,?#\s]+(:[0-9]+)?)*)/[^/?#]+(/[0-9]+)?)?"
)
# What may follow a rediss:// URL, of what redis-py knows.
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
TLS_OPTIONS = (*TLS_FILES, "ssl_cert_reqs", "ssl_check_hostname")
TLS_CERT_REQS = ("required", "optional", "none")


def _store_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    found = STORE_URLS.fullmatch(text)
    if found is None or not all(map(_is_address, (found["host"] or found["hosts"] or "").split(","))):
        raise ValueError(
            "must be sqlite:PATH, redis://HOST/DB, rediss://HOST/DB, redis+sentinel://HOST,HOST/SERVICE/DB or memory"
        )
    options = _options(text)
    if not options.keys() <= set(TLS_OPTIONS if text.startswith("rediss:") else ()):
        raise ValueError(f"only rediss:// has options, and they are {', '.join(TLS_OPTIONS)}")
    if options.get("ssl_cert_reqs", "required") not in TLS_CERT_REQS:
        raise ValueError(f"ssl_cert_reqs must be {', '.join(TLS_CERT_REQS)}")
    return url


def _is_address(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").port != 0
    except ValueError:
        return False


def _options(url: str) -> dict[str, str]:
    if not url.startswith("redis"):
        return {}
    return dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))


def store_problem(url: str) -> str | None:
    """Why a store cannot work here, whatever its server does."""
    if url.startswith("sqlite:"):
        return _file_problem(Path(url.removeprefix("sqlite:")))
    if url.startswith("redis") and find_spec("redis") is None:
        return "Redis needs another package: pip install 'voice-bridge[redis]'"
    for name, value in _options(url).items():
        if name in TLS_FILES and not os.access(value, os.R_OK):
            return f"the file of {name} is missing or cannot be read: look at its path and permissions"
    return None


def _file_problem(path: Path) -> str | None:
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return "the file's directory is missing or cannot be written: create it for the user of the bridge"
    if path.exists() and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        return "is no file, or one that cannot be written: name another, or give it to the user of the bridge"
    return None


def default_state_dir(variables: Mapping[str, str]) -> Path:
    """Where a process keeps files by systemd's or the user's choice, by these variables in lower case."""
    if from_systemd := variables.get("state_directory"):
        # One of several, with colons between.
        return Path(from_systemd.partition(":")[0])
    of_user = variables.get("xdg_state_home")
    return (Path(of_user) if of_user else Path.home() / ".local/state") / "voice-bridge"


def _directory(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError("must be an absolute path, e.g. /var/lib/voice-bridge")
    return text


# Source: Twilio, webhook connection overrides, and its error 11243 for a bad retry policy.
OVERRIDES = re.compile(
    r"(rc=[0-5]|(ct|rt|tt)=[1-9][0-9]{2,4}|rp=(4xx|5xx|ct|rt|all)(,(4xx|5xx|ct|rt))*|sni=[yn]|e=[a-z0-9,-]+)"
)


def _overrides(text: str) -> str:
    if text == "none":
        return ""
    pairs = text.removeprefix("#").split("&")
    names = {pair.partition("=")[0] for pair in pairs}
    if len(names) < len(pairs) or not all(OVERRIDES.fullmatch(pair) for pair in pairs):
        raise ValueError("must be pairs such as rc=2&rp=ct,5xx&ct=2000, or none")
    return "#" + "&".join(pairs)


AccountSid = Annotated[str, AfterValidator(_account_sid)]
ApiKeySid = Annotated[str, AfterValidator(_api_key_sid)]
ConnectionOverrides = Annotated[str, AfterValidator(_overrides)]
AgentNames = Annotated[str, AfterValidator(_names)]
NodeName = Annotated[str, AfterValidator(_node_name)]
NumberPrefixes = Annotated[str, AfterValidator(_numbers)]
StateDirectory = Annotated[str, AfterValidator(_directory)]
StoreUrl = Annotated[SecretStr, AfterValidator(_store_url)]
TwilioPlace = Annotated[str, AfterValidator(_twilio_place)]
WebhookSecrets = Annotated[SecretStr, AfterValidator(_webhook_secrets)]
WebhookUrl = Annotated[str, AfterValidator(_webhook_url)]
Workers = Annotated[str, AfterValidator(_workers)]


def _page_password(value: SecretStr) -> SecretStr:
    if 0 < len(value.get_secret_value()) < 12:
        raise ValueError("must have at least 12 characters")
    return value


PagePassword = Annotated[SecretStr, AfterValidator(_page_password)]
