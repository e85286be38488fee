"""Wrong tables of agents, each with the place of its one problem and the beginning of what is said about it."""

GOOD = """
url = "wss://h"
to_agent = '{"audio":"{audio}"}'
from_agent = { path = "delta", equal = { type = "audio" } }
"""
REALTIME = "protocol = 'openai-realtime'\nurl = 'wss://h'\n"
SESSION = "[session]\nurl = 'https://h'\nreply = ['data.id', 'token']\n"

# A table, the place, and the beginning of what is said.
WRONG = [
    (GOOD + "interupt = 'x'", "interupt", "unknown key; did you mean interrupt?"),
    (GOOD + "xyz = 'x'", "xyz", "unknown key; known: answers, binary, closing, "),
    (
        GOOD + "transfer = { match = 'x', to = 'n', acepted = '' }",
        "transfer.acepted",
        "unknown key; did you mean acc",
    ),
    (GOOD + "transfer = { match = 'x' }", "transfer.to", "is missing: the path of the number"),
    (GOOD + "answers = [{ match = 'x' }]", "answers.0.answer", "is missing: the answer"),
    (GOOD.replace('url = "wss://h"', ""), "url", "is missing: the address of the agent's socket"),
    (GOOD.replace("wss:", "https:"), "url", "must begin with wss:// or ws:// or {session."),
    (GOOD + "first = 'hello'", "first", "must be a list: [ ... ]"),
    (GOOD + "headers = 'hello'", "headers", "must be a table: { ... }"),
    (GOOD + "headers = { A = 5 }", "headers.A", "must be a text in quotes"),
    (GOOD + "session = 'https://h'", "session", "must be a table: { ... }"),
    (GOOD + "json_in_binary = 'yes'", "json_in_binary", "must be true or false"),
    (GOOD + "encoding = 'ulaw'", "encoding", "must be 'mulaw', 'alaw' or 'pcm16'; did you mean 'mulaw'?"),
    (
        GOOD + "to_agent_encoding = 'pcm_s16le'",
        "to_agent_encoding",
        "must be 'mulaw', 'alaw' or 'pcm16'; did you",
    ),
    (GOOD + "sample_rate = 44100", "sample_rate", "must be 8000, 16000, 24000 or 48000"),
    (GOOD + "sample_rate = 16000", "sample_rate", "mulaw has a rate of 8000; others need encoding = 'pcm16'"),
    (GOOD + "from_agent_rate = 16000", "from_agent_rate", "mulaw has a rate of 8000"),
    (GOOD + "keepalive_s = 0", "keepalive_s", "must be at least 0.5"),
    (GOOD + "session_limit_s = 0", "session_limit_s", "must be more than 0"),
    (GOOD + "silence_fill_ms = 20.5", "silence_fill_ms", "must be a whole number"),
    (
        "url = 'wss://h'\nto_agent = '{audio}'\nbinary = true",
        "to_agent",
        "must not be there with binary = true",
    ),
    (GOOD + "binary = 'both'", "binary", "must be true, false, 'to_agent' or 'from_agent'"),
    ("url = 'wss://h'\nto_agent = '{audio}'", "from_agent", "is missing: the place of the base64 text"),
    (GOOD.replace("{audio}", "{audio}{audio}"), "to_agent", "must have {audio} in it once"),
    (GOOD + "ready = 5", "ready", "must be values at places, e.g. "),
    (GOOD + "ready = { a = 1.5 }", "ready", "a: must be a text, a whole number, true or false"),
    (GOOD + "ready = { 'a..b' = 1 }", "ready", "a..b: must be keys joined by dots"),
    (
        GOOD.replace('"delta"', '"a[0"'),
        "from_agent.path",
        "must be keys joined by dots, with [0] for an item",
    ),
    (GOOD.replace('"delta"', '"type"'), "from_agent", "type is used twice"),
    (
        GOOD + "transfer = { match = 'x', to = 'a[*]' }",
        "transfer.to",
        "must be one place, so it cannot have [*]",
    ),
    (
        GOOD + "transcript = [{ match = 'x', path = 't', role = 'user' }]",
        "transcript.0.role",
        "must be 'caller' or",
    ),
    (GOOD + "error_kinds = { quotas = 'x' }", "error_kinds.quotas", "must be 'quota', 'credentials', "),
    (GOOD + "error_text = 'message'", "error_text", "needs error, trouble or warning"),
    (GOOD + "on_ready = ['x']", "on_ready", "needs ready; without it use first"),
    (GOOD + "item = 'id'", "item", "needs heard, the message that names it"),
    (GOOD + "dtmf = '{digit}'\nkeys = '{keys}'", "keys", "must not be there with dtmf"),
    (
        "url = 'wss://h'\nbinary = true\nturn_id = 'id'",
        "turn_id",
        "needs from_agent: it is read from the messages",
    ),
    (
        GOOD + "first = ['{caller}']",
        "first.0",
        "unknown placeholder {caller}; available: {call_sid}, {from}, ",
    ),
    (GOOD + "first = ['{digit}']", "first.0", "unknown placeholder {digit}; available: "),
    (
        GOOD + "heard = '{item}'",
        "heard",
        "unknown placeholder {item}; available: {call_sid}, {from}, {heard_ms}",
    ),
    (GOOD + "headers = { A = 'x {history}' }", "headers.A", "unknown placeholder {history}; available: "),
    (GOOD + "first = ['{envi.KEY}']", "first.0", "unknown placeholder {envi.KEY}; available: "),
    (GOOD + "first = ['{session.id}']", "first.0", "unknown placeholder {session.id}; available: "),
    (
        GOOD + "first = ['{session.id}']\n" + SESSION,
        "first.0",
        "unknown placeholder {session.id}; session.reply has ",
    ),
    (
        GOOD + SESSION + "body = { a = '{session.token}' }",
        "session.body",
        "unknown placeholder {session.token}; ",
    ),
    (GOOD + SESSION.replace("'https:", "'wss:"), "session.url", "must begin with https:// or http://"),
    (GOOD + SESSION.replace("'data.id', 'token'", ""), "session.reply", "must not be empty"),
    (GOOD + SESSION + "body = { n = 99999999999999999999 }", "session.body", "cannot be written as JSON"),
    (
        GOOD.replace("wss://h", "{session.token}/x") + SESSION,
        "url",
        "must begin with wss:// or ws://, or be one placeh",
    ),
    # A service with OpenAI's protocol
    (REALTIME + "greets = 'yes'", "greets", "must be true or false"),
    (REALTIME + "tool = true", "tool", "unknown key; did you mean tools?"),
    (
        REALTIME + "instructions = 'Hello {name}'",
        "instructions",
        "unknown placeholder {name}; available: {call_sid}, ",
    ),
    (REALTIME + "headers = { A = '{envi.KEY}' }", "headers.A", "unknown placeholder {envi.KEY}; available: "),
    # An agent that Twilio reaches by itself
    ("dial = { sip = 'a@b' }", "dial.sip", "must be a SIP address, e.g. sip:"),
    ("dial = { }", "dial", "must have exactly one of sip, twiml_from, "),
    (
        "dial = { redirect = 'https://h/{caller}' }",
        "dial.redirect",
        "unknown placeholder {caller}; available: ",
    ),
    (
        "dial = { stream_url = 'wss://{session.host}' }\n" + SESSION,
        "dial.stream_url",
        "unknown placeholder {session.host}; session.reply has ",
    ),
]
