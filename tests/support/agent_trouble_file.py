"""The agents file of calls with an agent in trouble: the first agents that are tables, and the next agent of all."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples" / "agents"
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


def agents_file(first: str, next_agent: str, examples: Iterable[str]) -> str:
    """
    The text of the agents file, for these addresses.

    Args:
        examples: Tables of ``examples/agents`` that are in it too, at the first address.
    """
    json_part, binary = (
        MEANINGS.format(name=name, key=key) for name, key in (("json", "kind"), ("binary", "type"))
    )
    own = AGENTS_FILE.format(first=first, next=next_agent, json=json_part, binary=binary)
    of_scheme = {"wss": first, "https": first.replace("ws://", "http://")}
    return own + "\n".join(
        re.sub(r'"(wss|https)://[^/"]+', lambda found: f'"{of_scheme[found[1]]}', path.read_text())
        for path in (EXAMPLES / f"{name}.toml" for name in examples)
    )
