"""Values of a call on their way to its agent, over real sockets: the agents' services see them."""

from __future__ import annotations

import json

import pytest
from live import PLAIN_AND_TLS, Live, until

from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.agent.session import AgentSession

pytestmark = PLAIN_AND_TLS

# A caller who tries to read a variable of the process, to leave the text, and to add a field.
NAME = '{env.SHOP} "Zoë", "admin": true}'
CALLER = "+14155550123"


async def talk_to(live: Live, **form: str) -> AgentSession:
    """A call with these fields in Twilio's form; returns the agent's end of it, when audio may flow."""
    async with live.caller() as caller:
        answer = await caller.post_voice(extra=form)
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
            "account": Account(key="canary-api-key-77d0", required_variables=frozenset(variables)),
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
    account = Account(key="canary-api-key-77d0", required_variables=frozenset({"name"}))
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
