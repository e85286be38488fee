"""Values of a call on their way to its agent, over real sockets: the agents' services see them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from live import API_KEY, PLAIN_AND_TLS, Live, until
from user_side import user_side

from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.session import AgentSession
from bridge.standins.process import free_port

pytestmark = PLAIN_AND_TLS

# A caller who tries to read a variable of the process, to leave the text, and to add a field.
NAME = '{env.SHOP} "Zoë", "admin": true}'
CALLER = "+14155550123"


async def talk_to(live: Live, path: str = "/voice", **form: str) -> AgentSession:
    """A call with these fields in Twilio's form; returns the agent's end of it, when audio may flow."""
    async with live.caller() as caller:
        answer = await caller.post_voice(path, extra=form)
        assert answer.verbs == ["Connect", "Redirect"]
        await caller.open_stream()
        session = await live.session_of(caller)
        await caller.send_media(b"hello")
        await until(lambda: session.received)
        return session


async def test_elevenlabs_agent_gets_the_dynamic_variables_that_it_requires(live_server, tmp_path):
    path = tmp_path / "initiation.json"
    path.write_text(
        json.dumps(
            {
                "user_id": "{call_sid}",
                "conversation_config_override": {"agent": {"first_message": "Hi {form.CallerName}!"}},
            }
        )
    )
    variables = {"caller": "{from}", "name": "{form.CallerName!}", "shop": "{env.SHOP}", "is_new": True}
    live = await live_server(
        agent={
            "protocol": "elevenlabs",
            "account": Account(key=API_KEY, required_variables=frozenset(variables)),
        },
        ELEVENLABS_DYNAMIC_VARIABLES=json.dumps(variables),
        ELEVENLABS_INITIATION_FILE=path,
        SHOP="Main Street",
    )
    session = await talk_to(live, CallerName=NAME)
    assert session.client_data["dynamic_variables"] == {
        "caller": CALLER,
        "name": NAME,
        "shop": "Main Street",
        "is_new": True,
    }
    assert session.client_data["user_id"].startswith("CA")
    assert session.client_data["conversation_config_override"] == {"agent": {"first_message": f"Hi {NAME}!"}}


async def test_elevenlabs_agent_that_lacks_a_variable_gives_way_to_the_next_one(live_server, logs):
    account = Account(key=API_KEY, required_variables=frozenset({"name"}))
    live = await live_server(
        agent={"protocol": "elevenlabs", "account": account}, BRIDGE_AGENT="elevenlabs,echo"
    )
    async with live.answered() as caller:
        await caller.open_stream()
        await until(lambda: live.agents_replaced == 1)
        await caller.send_media(b"hello")
        await until(lambda: caller.received_audio == [b"hello"])
        [session] = live.agent.sessions.values()
        assert not session.ready.is_set()
    reason = "close 1008 Missing required dynamic variables in first message: {'name'}"
    assert [line for line in logs.lines if reason in line and line.startswith("WARNING")]


async def test_prompt_and_greeting_of_deepgram_have_the_callers_number(live_server, tmp_path):
    prompt = "You talk with {form.CallerName} on {from}, who calls {env.SHOP}. " + 1000 * "Be brief. "
    agent = {"think": {"prompt": prompt}, "greeting": "Hello {from}!"}
    (tmp_path / "agent.json").write_text(json.dumps(agent))
    live = await live_server(
        agent={"protocol": "deepgram"}, DEEPGRAM_AGENT_FILE=tmp_path / "agent.json", SHOP="Main Street"
    )
    session = await talk_to(live, CallerName=NAME)
    filled = f"You talk with {NAME} on {CALLER}, who calls Main Street. " + 1000 * "Be brief. "
    assert session.settings["agent"] == {"think": {"prompt": filled}, "greeting": f"Hello {CALLER}!"}


@pytest.mark.parametrize("protocol", ["retell", "retell-web", "retell-twilio"])
async def test_retell_gets_dynamic_variables_and_metadata(live_server, protocol):
    live = await live_server(
        agent={"protocol": protocol},
        RETELL_DYNAMIC_VARIABLES='{"caller": "{from}", "name": "{form.CallerName}"}',
        RETELL_METADATA='{"shop": {"name": "{env.SHOP}"}, "callSid": "of somebody else"}',
        SHOP="Main Street",
    )
    session = await talk_to(live, CallerName=NAME)
    assert session.request["retell_llm_dynamic_variables"] == {"caller": CALLER, "name": NAME}
    metadata = session.request["metadata"]
    assert metadata["shop"] == {"name": "Main Street"}
    assert metadata["callSid"].startswith("CA")


async def test_retell_by_phone_gets_dynamic_variables_too(live_server):
    live = await live_server(
        agent={"protocol": "retell-sip"}, RETELL_DYNAMIC_VARIABLES='{"name": "{form.CallerName!}"}'
    )
    async with live.caller() as caller:
        assert (await caller.post_voice(extra={"CallerName": NAME})).verbs == ["Dial"]
    [session] = live.agent.sessions.values()
    assert session.request["retell_llm_dynamic_variables"] == {"name": NAME}


async def test_agent_whose_required_value_a_call_does_not_have_is_passed_over(live_server):
    live = await live_server(
        RETELL_DYNAMIC_VARIABLES='{"name": "{form.CallerName!}"}', BRIDGE_AGENT="retell,echo"
    )
    async with live.answered() as caller:
        await caller.open_stream()
        await caller.send_media(b"hello")
        await until(lambda: caller.received_audio == [b"hello"])
    assert live.agent.requests == []


async def test_required_value_that_is_too_long_gives_the_fallback_and_not_a_dead_stream(live_server, logs):
    live = await live_server(RETELL_DYNAMIC_VARIABLES='{"name": "{form.CallerName!}"}')
    async with live.caller() as caller:
        answer = await caller.post_voice(extra={"CallerName": 2000 * "n"})
        assert answer.verbs == ["Say", "Hangup"]
    assert live.agent.requests == []
    (line,) = [line for line in logs.lines if "call gets the fallback" in line]
    assert "form.CallerName: too long" in line


# A value of each kind in each agent


class Place(NamedTuple):
    """Where an agent has the text: the settings for it beside those of all, and where its service sees it."""

    settings: dict[str, str]
    seen: Callable[[Any], str]


TEXT = "{value.customer}, {form.CallerName} and {param.tenant} on {from}, for {env.SHOP}"
# With the values in instructions, in an address and the first message, and in the request for a session.
AGENTS_FILE = """
[xai]
protocol = "openai-realtime"
url = "{socket}/v1/realtime?model=grok-voice-latest"
headers = {{ Authorization = "Bearer {{env.FIRST_KEY}}" }}
instructions = {text}

[assemblyai]
url = "{socket}/v1/ws?customer={{value.customer}}&caller={{form.CallerName}}&tenant={{param.tenant}}"
headers = {{ Authorization = "Bearer {{env.FIRST_KEY}}" }}
to_agent = '{{"type":"input.audio","audio":"{{audio}}"}}'
from_agent = {{ path = "data", equal = {{ type = "reply.audio" }} }}
ready = {{ type = "session.ready" }}
first = [{first}]

[ultravox]
url = "{{session.joinUrl}}"
binary = true
encoding = "pcm16"
ignored = [{{ type = ["state", "call_started"] }}]

[ultravox.session]
url = "{api}/api/agents/agent_standin/calls"
headers = {{ X-API-Key = "{{env.FIRST_KEY}}" }}
reply = ["joinUrl"]
body.templateContext = {{ call = {text} }}
body.medium.serverWebSocket = {{ inputSampleRate = 8000 }}
"""
PCMU = {"format": {"encoding": "audio/pcmu"}}
FIRST = {"type": "session.update", "session": {"system_prompt": TEXT, "input": PCMU, "output": PCMU}}
RETELL = Place(
    {"RETELL_DYNAMIC_VARIABLES": json.dumps({"call": TEXT})},
    lambda session: session.request["retell_llm_dynamic_variables"]["call"],
)
PLACES = {
    "retell": RETELL,
    "retell-web": RETELL,
    "retell-twilio": RETELL,
    "elevenlabs": Place(
        {"ELEVENLABS_DYNAMIC_VARIABLES": json.dumps({"call": TEXT})},
        lambda session: session.client_data["dynamic_variables"]["call"],
    ),
    "deepgram": Place({}, lambda session: session.settings["agent"]["think"]["prompt"]),
    "openai": Place({"OPENAI_REALTIME_INSTRUCTIONS": TEXT}, lambda session: session.session["instructions"]),
    "openai-live": Place({"OPENAI_LIVE_INSTRUCTIONS": TEXT}, lambda session: session.session["instructions"]),
    "xai": Place({}, lambda session: session.session["instructions"]),
    "assemblyai": Place({}, lambda session: session.settings["system_prompt"]),
    "ultravox": Place({}, lambda session: session.request["templateContext"]["call"]),
}


@pytest.mark.parametrize("protocol", PLACES)
async def test_values_of_the_webhook_the_form_and_the_url_arrive_as_they_were_given(
    live_server, tls, tmp_path, protocol
):
    place, port = PLACES[protocol], free_port()
    (tmp_path / "agent.json").write_text(json.dumps({"think": {"prompt": TEXT}}))
    socket, api = (f"{scheme}{'s' if tls else ''}://127.0.0.1:{port}" for scheme in ("ws", "http"))
    (tmp_path / "agents.toml").write_text(
        AGENTS_FILE.format(socket=socket, api=api, text=json.dumps(TEXT), first=json.dumps(json.dumps(FIRST)))
    )
    async with user_side(tls) as user:
        user.answer = {"values": {"customer": f"C {NAME}"}}
        settings = {
            **user.settings(tmp_path),
            "BRIDGE_ANSWER_AGENTS": "",
            "BRIDGE_AGENTS_FILE": tmp_path / "agents.toml",
            "DEEPGRAM_AGENT_FILE": tmp_path / "agent.json",
            "BRIDGE_AGENT": protocol,
            "FIRST_KEY": API_KEY,
            "SHOP": "Main Street",
            **place.settings,
        }
        variables = frozenset({"call"} if protocol == "elevenlabs" else ())
        account = Account(key=API_KEY, required_variables=variables)
        live = await live_server(agent={"protocol": protocol, "port": port, "account": account}, **settings)
        session = await talk_to(live, f"/voice?tenant={quote(f'T {NAME}')}", CallerName=f"F {NAME}")
        assert place.seen(session) == f"C {NAME}, F {NAME} and T {NAME} on {CALLER}, for Main Street"
        if protocol == "assemblyai":
            values = {"customer": f"C {NAME}", "caller": f"F {NAME}", "tenant": f"T {NAME}"}
            assert session.request == values
