"""The agents file of calls with an agent in trouble: the first agents that are tables, and the next agent of all."""

from __future__ import annotations

# The first agents that are tables, and the next agent of all.
AGENTS_FILE = """
[xai]
protocol = "openai-realtime"
url = "{first}/v1/realtime?model=grok-voice-latest"
headers = {{ Authorization = "Bearer {{env.FIRST_KEY}}" }}
greets = false
session = {{ voice = "eve", turn_detection = {{ type = "server_vad" }} }}

[json]
url = "{first}/agent"
to_agent = '{{"kind":"audio","body":{{"b64":"{{audio}}"}}}}'
from_agent = {{ path = "body.b64", equal = {{ kind = "audio" }} }}
{json}
[binary]
url = "{first}/agent"
binary = true
{binary}
[next]
protocol = "openai-realtime"
url = "{next}?model=gpt-realtime-2.1"
headers = {{ Authorization = "Bearer {{env.NEXT_KEY}}" }}
"""
MEANINGS = """
ready = {{ {key} = "ready", format = "mulaw" }}
error = [{{ {key} = "error" }}, {{ {key} = "ready" }}]
trouble = {{ {key} = "trouble" }}
error_text = "message"
transcript = [{{ match = {{ {key} = "heard" }}, path = "text", role = "caller" }}]

[{name}.error_kinds]
quota = {{ code = "no_credit" }}
credentials = {{ code = "bad_key" }}
session_limit = {{ code = "too_old" }}
server = {{ code = "server" }}
refused = [{{ code = "invalid_settings" }}, {{ {key} = "ready" }}]
"""


def agents_file(first: str, next_agent: str) -> str:
    """The text of the agents file, for these addresses."""
    json_part, binary = (
        MEANINGS.format(name=name, key=key) for name, key in (("json", "kind"), ("binary", "type"))
    )
    return AGENTS_FILE.format(first=first, next=next_agent, json=json_part, binary=binary)
