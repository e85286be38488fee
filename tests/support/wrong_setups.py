"""Wrong set-ups that people make: the settings, the one to change, and the words that say what to do."""

from __future__ import annotations

from settings_env import SID

ROUTE = "[[route]]\nagents = ['echo']\n"

# By name: variables beside good ones, the variable that the sentence begins with, and what it says to do. A value that
# ends with ".toml" is a file of `FILES`.
AT_START = {
    "no public URL": ({"PUBLIC_URL": ""}, "PUBLIC_URL", "e.g. https://voice.example.com"),
    "no SID": ({"TWILIO_ACCOUNT_SID": ""}, "TWILIO_ACCOUNT_SID", "from Twilio's console"),
    "no token": ({"TWILIO_AUTH_TOKEN": ""}, "TWILIO_AUTH_TOKEN", "from Twilio's console"),
    "no agent": ({"BRIDGE_AGENT": ""}, "BRIDGE_AGENT", "or echo to try"),
    "http": ({"PUBLIC_URL": "http://a.acme.com"}, "PUBLIC_URL", "must begin with https://"),
    "host without scheme": (
        {"PUBLIC_URL": "a.acme.com"},
        "PUBLIC_URL",
        "must begin with http:// or https://",
    ),
    "wss": ({"PUBLIC_URL": "wss://a.acme.com"}, "PUBLIC_URL", "must begin with http:// or https://"),
    "private address": ({"PUBLIC_URL": "https://10.0.0.7"}, "PUBLIC_URL", "put the public one"),
    "name of the house": ({"PUBLIC_URL": "https://bridge.lan"}, "PUBLIC_URL", "put the public one"),
    "path of the webhook": (
        {"PUBLIC_URL": "https://a.acme.com/voice"},
        "PUBLIC_URL",
        "put https://a.acme.com",
    ),
    "query in the URL": ({"PUBLIC_URL": "https://a.acme.com?x=1"}, "PUBLIC_URL", "must have no user, query"),
    "quotes": ({"TWILIO_AUTH_TOKEN": '"0123"'}, "TWILIO_AUTH_TOKEN", "leave them out"),
    "line break": ({"RETELL_API_KEY": "0123\nab"}, "RETELL_API_KEY", "leave it out"),
    "placeholder": ({"TWILIO_AUTH_TOKEN": "your_auth_token"}, "TWILIO_AUTH_TOKEN", "put the real value"),
    "variable of a shell": ({"RETELL_API_KEY": "${KEY}"}, "RETELL_API_KEY", "put the real value"),
    "SID and token swapped": (
        {"TWILIO_ACCOUNT_SID": 32 * "0", "TWILIO_AUTH_TOKEN": SID},
        "TWILIO_ACCOUNT_SID",
        "must be AC and 32 hex digits",
    ),
    "API key in place of the SID": (
        {"TWILIO_ACCOUNT_SID": "SK" + 32 * "0"},
        "TWILIO_ACCOUNT_SID",
        "must be AC and 32 hex digits",
    ),
    "API key without its secret": (
        {"TWILIO_API_KEY_SID": "SK" + 32 * "0"},
        "TWILIO_API_KEY_SECRET",
        "an API key is its SID and its secret",
    ),
    "region without a known edge": ({"TWILIO_REGION": "xx9"}, "TWILIO_EDGE", "known regions are"),
    "unknown agent": ({"BRIDGE_AGENT": "parrot"}, "BRIDGE_AGENT", "available: deepgram"),
    "space in the chain": (
        {"BRIDGE_AGENT": "echo, retell"},
        "BRIDGE_AGENT",
        "several with commas and no spaces between",
    ),
    "agent without its key": ({"BRIDGE_AGENT": "openai"}, "OPENAI_API_KEY", "is missing: "),
    "socket by https": ({"RETELL_WS_URL": "https://a.acme.com"}, "RETELL_WS_URL", "must begin with ws://"),
    "near name": ({"BRIDGE_MAX_CALL": "9"}, "BRIDGE_MAX_CALL", "did you mean BRIDGE_MAX_CALLS?"),
    "word for a switch": (
        {"BRIDGE_TRANSCRIPTS": "yes"},
        "BRIDGE_TRANSCRIPTS",
        "must be 0 or 1",
    ),
    "fallback without +": ({"BRIDGE_FALLBACK": "dial:0155512345"}, "BRIDGE_FALLBACK", "dial:+E164NUMBER"),
    "fallback without say:": ({"BRIDGE_FALLBACK": "Sorry"}, "BRIDGE_FALLBACK", "must be say:TEXT"),
    "transfer without +": ({"BRIDGE_TRANSFER_TO": "4930"}, "BRIDGE_TRANSFER_TO", "e.g. +4930,+14155550100"),
    "caller ID without +": ({"BRIDGE_CALLER_ID": "4930"}, "BRIDGE_CALLER_ID", "e.g. +14155550100"),
    "port in words": ({"PORT": "seventy"}, "PORT", "must be a whole number"),
    "no calls at all": ({"BRIDGE_MAX_CALLS": "0"}, "BRIDGE_MAX_CALLS", "must be at least 1"),
    "workers": ({"BRIDGE_WORKERS": "0"}, "BRIDGE_WORKERS", "must be a number from 1 to 99, or auto"),
    "store without its scheme": ({"BRIDGE_STORE": "redis:6379"}, "BRIDGE_STORE", "redis://HOST/DB"),
    "store in no directory": (
        {"BRIDGE_STORE": "sqlite:/no/such/x.db"},
        "BRIDGE_STORE",
        "create it for the user of the bridge",
    ),
    "relative state directory": (
        {"BRIDGE_STATE_DIR": "state"},
        "BRIDGE_STATE_DIR",
        "e.g. /var/lib/voice-bridge",
    ),
    "agents file that is not there": (
        {"BRIDGE_AGENTS_FILE": "none"},
        "BRIDGE_AGENTS_FILE",
        "look at its path",
    ),
    "agent of a file that is not there": (
        {"BRIDGE_AGENTS_FILE": "none", "BRIDGE_AGENT": "mine"},
        "BRIDGE_AGENTS_FILE",
        "look at its path and permissions",
    ),
    "agents file that is no TOML": ({"BRIDGE_AGENTS_FILE": "bad.toml"}, "BRIDGE_AGENTS_FILE", "at line 1"),
    "route behind one for all": (
        {"BRIDGE_ROUTES_FILE": "hidden.toml"},
        "BRIDGE_ROUTES_FILE",
        "put it before that one",
    ),
    "route to a number without +": (
        {"BRIDGE_ROUTES_FILE": "number.toml"},
        "BRIDGE_ROUTES_FILE",
        "must be + and 7 to 15 digits",
    ),
    "route from a prefix without +": (
        {"BRIDGE_ROUTES_FILE": "prefix.toml"},
        "BRIDGE_ROUTES_FILE",
        "must be + and 1 to 15 digits",
    ),
    "route to a number with a 0 in front": (
        {"BRIDGE_ROUTES_FILE": "zero.toml"},
        "BRIDGE_ROUTES_FILE",
        "without a 0 in front",
    ),
    "route to an unknown agent": ({"BRIDGE_ROUTES_FILE": "parrot.toml"}, "BRIDGE_ROUTES_FILE", "available: "),
    "recordings as MP3": ({"BRIDGE_RECORD_FORMAT": "mp3"}, "BRIDGE_RECORD_FORMAT", "must be 'wav' or 'opus'"),
    "certificate without its key": ({"BRIDGE_TLS_CERT": "c.pem"}, "BRIDGE_TLS_KEY", "certificate and key go"),
    "certificate that is not there": (
        {"BRIDGE_TLS_CERT": "c.pem", "BRIDGE_TLS_KEY": "k.pem"},
        "BRIDGE_TLS_CERT",
        "look at its path and permissions",
    ),
    "answer webhook by http": (
        {"BRIDGE_ANSWER_URL": "http://a.acme.com", "BRIDGE_WEBHOOK_SECRET": "whsec_" + 32 * "A"},
        "BRIDGE_ANSWER_URL",
        "must begin with https://",
    ),
    "answer webhook without a secret": (
        {"BRIDGE_ANSWER_URL": "https://a.acme.com"},
        "BRIDGE_WEBHOOK_SECRET",
        "is missing: requests to BRIDGE_ANSWER_URL are signed with it",
    ),
    "hold shorter than the agent's connect": (
        {"BRIDGE_HOLD_FROM_CALLER_MS": "4000"},
        "BRIDGE_HOLD_FROM_CALLER_MS",
        "which is BRIDGE_AGENT_CONNECT_S in ms",
    ),
}
FILES = {
    "bad.toml": "[mine\n",
    "number.toml": ROUTE + "to = '14155550100'\n",
    "zero.toml": ROUTE + "to = '+04155550100'\n",
    "prefix.toml": ROUTE + "from_prefix = '49'\n",
    "hidden.toml": ROUTE + ROUTE,
    "parrot.toml": ROUTE.replace("echo", "parrot"),
}
# Set-ups that start, with a warning.
WARNED = {
    "this machine": ({"PUBLIC_URL": "http://127.0.0.1:3000"}, "PUBLIC_URL", "put the public one"),
    "name of a document": ({"PUBLIC_URL": "https://a.example.com"}, "PUBLIC_URL", "put your own"),
    "upper case": ({"PUBLIC_URL": "https://A.acme.com"}, "PUBLIC_URL", "https://a.acme.com is safer"),
    "near name of an agent's": ({"RETELL_API_KEYS": "k"}, "RETELL_API_KEYS", "did you mean RETELL_API_KEY?"),
    "removed setting": ({"BRIDGE_TOKEN_S": "9"}, "BRIDGE_TOKEN_S", "no longer a setting, ignored"),
}
