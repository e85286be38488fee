"""The command line. Each command imports its modules when it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

INJECT_KINDS = ("drop", "dup", "swap", "corrupt", "late")
AGENT_PROTOCOLS = (
    "retell",
    "retell-web",
    "retell-twilio",
    "retell-sip",
    "openai",
    "xai",
    "azure-openai",
    "inworld",
    "openai-live",
    "elevenlabs",
    "deepgram",
    "assemblyai",
    "cartesia",
    "ultravox",
    "vapi",
    "binary",
    "json",
)
AUDIO_FORMATS = ("ulaw_8000", "pcm_8000", "pcm_16000", "pcm_24000")


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"bridge {version('voice-bridge')}")
    except PackageNotFoundError:
        click.echo("bridge, run from a source tree that is not installed")
    context.exit()


@click.group(name="bridge", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Carry phone calls between Twilio Media Streams and a voice agent."""


@main.command()
@click.option("--host", metavar="HOST", help="Address to listen on.  [env: HOST; default: 0.0.0.0]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on.  [env: PORT; default: 3000]")
@click.option("--public-url", metavar="URL", help="Base URL that Twilio uses.  [env: PUBLIC_URL]")
@click.option("--agent", metavar="NAME", help="Who answers.  [env: BRIDGE_AGENT; required]")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="[env: BRIDGE_LOG_LEVEL; default: info]",
)
def serve(
    host: str | None, port: int | None, public_url: str | None, agent: str | None, log_level: str | None
) -> None:
    """Serve calls. Options override the environment, and the environment overrides a .env file."""
    from bridge.serve import run

    given = {
        "HOST": host,
        "PORT": None if port is None else str(port),
        "PUBLIC_URL": public_url,
        "BRIDGE_AGENT": agent,
        "BRIDGE_LOG_LEVEL": log_level,
    }
    sys.exit(run({name: value for name, value in given.items() if value is not None}))


@main.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="demo-out",
    show_default=True,
    help="Folder for the recordings, the picture and the numbers.",
)
@click.option(
    "--inject", type=click.Choice(INJECT_KINDS), help="Self-test: damage audio, so that the demo must fail."
)
@click.option(
    "--page", is_flag=True, help="Show the call on the bridge's page, and leave it open until Ctrl-C."
)
def demo(out: Path, inject: str | None, page: bool) -> None:
    """Make one call on this machine, with a stand-in caller and agent: no account, about 25 s."""
    from bridge.standins.demo import run

    sys.exit(run(out, inject=inject, page=page))


@main.command()
@click.option(
    "--protocol",
    type=click.Choice(AGENT_PROTOCOLS),
    default="retell",
    show_default=True,
    help="The service to stand in for; see above.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8081, show_default=True, help="0: any.")
@click.option(
    "--behaviour",
    type=click.Choice(["conversation", "echo", "silent", "numbered"]),
    default="conversation",
    show_default=True,
    help="The agent's part in a call.",
)
@click.option("--key", default="key_standin", show_default=True, help="The API key that the service expects.")
@click.option(
    "--audio-format",
    type=click.Choice(AUDIO_FORMATS),
    default="ulaw_8000",
    show_default=True,
    help="The audio of retell-web and elevenlabs; the others support only the default.",
)
@click.option(
    "--inject", type=click.Choice(INJECT_KINDS), help="Damage every 50th frame that the agent sends."
)
@click.option(
    "--open-delay-s", type=click.FloatRange(0), default=0.0, help="Wait before a call's socket opens."
)
def agent(
    protocol: str,
    host: str,
    port: int,
    behaviour: str,
    key: str,
    audio_format: str,
    inject: str | None,
    open_delay_s: float,
) -> None:
    """
    Run a stand-in for an agent service, to develop with; Ctrl-C ends it.

    The service prints the settings with which a bridge uses it. A bridge needs for each protocol:

    \b
      retell         create-web-call, then a socket with its access token; JSON
      retell-web     register-call, then a socket; binary audio
      retell-twilio  register-call, then a socket; Twilio's own messages
      retell-sip     register-phone-call; no socket and no audio
      openai         the key and a model; session.update with audio/pcmu
      xai, azure-openai, inworld   the same; an agent of an agents file
      openai-live    the key; session.start with audio/pcmu
      elevenlabs     the key, or a signed URL got with it
      deepgram       the key; Settings with mulaw at 8000 Hz
      assemblyai, cartesia, ultravox, vapi
                     the key, and the table in examples/agents with this address
      binary, json   no key; an agent of an agents file, on /agent
    """
    from bridge.standins.commands import run_agent

    if audio_format != "ulaw_8000" and protocol not in ("retell-web", "elevenlabs"):
        raise click.BadParameter(f"{protocol} supports only ulaw_8000", param_hint="--audio-format")
    sys.exit(
        run_agent(
            protocol=protocol,
            audio_format=audio_format,
            host=host,
            port=port,
            behaviour=behaviour,
            key=key,
            inject=inject,
            open_delay_s=open_delay_s,
        )
    )


@main.command()
@click.argument("url")
@click.option(
    "--wav",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The caller's words; default: a bundled question.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file for the audio that the caller hears.",
)
@click.option("--public-url", metavar="URL", help="The bridge's PUBLIC_URL; default: URL.")
@click.option("--account-sid", envvar="TWILIO_ACCOUNT_SID", show_envvar=True, help="Default: a random one.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="The longest call; it ends 3 s after both sides have gone quiet.",
)
@click.option(
    "--inject", type=click.Choice(INJECT_KINDS), help="Damage every 50th frame that the caller sends."
)
@click.option("--expect-echo", is_flag=True, help="Fail unless the caller's own audio comes back exactly.")
def call(
    url: str,
    wav: Path | None,
    out: Path | None,
    public_url: str | None,
    account_sid: str | None,
    seconds: float,
    inject: str | None,
    expect_echo: bool,
) -> None:
    """
    Call a bridge as Twilio does: a signed webhook to URL/voice, then the media stream of its answer.

    The auth token is read from TWILIO_AUTH_TOKEN. Without one nothing is signed, and only a bridge with signatures
    off accepts the call.
    """
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter("must begin with http:// or https://", param_hint="URL")
    from bridge.standins.commands import run_call

    sys.exit(
        run_call(
            url.rstrip("/").removesuffix("/voice"),
            wav=wav,
            out=out,
            public_url=public_url,
            account_sid=account_sid,
            seconds=seconds,
            inject=inject,
            expect_echo=expect_echo,
        )
    )


@main.command(name="check")
@click.option(
    "--number",
    default="",
    metavar="NUMBER",
    help="The phone number to look at.  [default: all of this bridge]",
)
@click.option("--agents", is_flag=True, help="Open a session of each agent too, which may cost money.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--signature",
    nargs=3,
    metavar="URL HEADER FORM",
    help="Check only the signature HEADER of a request to URL with the body FORM.",
)
def check_setup(number: str, agents: bool, as_json: bool, signature: tuple[str, str, str] | None) -> None:
    """
    Check whether this set-up can carry calls, and say what to do where it cannot.

    The exit code is 1 if calls cannot work, and 2 if settings are missing or wrong.
    """
    from bridge.commands.check import run

    sys.exit(run({}, number=number, opens_agents=agents, as_json=as_json, signature=signature or ()))


@main.command(name="number")
@click.argument("number")
@click.option(
    "--fallback-url", metavar="URL", help="Set what Twilio asks while no bridge answers, e.g. a TwiML Bin."
)
@click.option("--yes", is_flag=True, help="Change it; else the differences are only shown.")
def point_number(number: str, fallback_url: str | None, yes: bool) -> None:
    """Point the voice URL and the status callback of a phone number at Twilio to this bridge."""
    from bridge.commands.number import run

    sys.exit(run({}, number, fallback_url=fallback_url, is_confirmed=yes))


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--reveal", is_flag=True, help="Show phone numbers and the agent's names whole.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay(file: Path, reveal: bool, as_json: bool) -> None:
    """
    Run the flight record FILE through the call's state machine, and show its events.

    FILE is a file below flights/ in BRIDGE_STATE_DIR, which TWILIO_AUTH_TOKEN opens, or an answer of
    GET /calls/CALLSID/flight; - reads it from standard input. The exit code is 1 if the machine does something else
    now, and 2 if FILE cannot be read.
    """
    from bridge.commands.replay import run

    sys.exit(run(file, reveals=reveal, as_json=as_json))


@main.command(name="retell-agent")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--agent-id",
    metavar="ID",
    help="The agent to change.  [env: RETELL_AGENT_ID; default: the agent with the file's agent_name, or a new one]",
)
@click.option("--dry-run", is_flag=True, help="Only show the differences.")
@click.option("--publish", is_flag=True, help="Publish the version too: Retell changes drafts only.")
@click.option("--example", is_flag=True, help="Print a commented FILE and exit.")
def retell_agent(
    file: Path | None, agent_id: str | None, dry_run: bool, publish: bool, example: bool
) -> None:
    """
    Create or update a Retell agent from the TOML file FILE.

    The key is read from RETELL_API_KEY. Every value is checked before the first request, and only differences are
    sent.
    """
    from bridge.retell_agent.command import run
    from bridge.retell_agent.file import EXAMPLE

    if example:
        click.echo(EXAMPLE.read_text("utf-8"), nl=False)
        return
    if file is None:
        raise click.UsageError("FILE is missing; --example prints one to begin with")
    sys.exit(run(file, agent_id=agent_id, dry_run=dry_run, publish=publish))


@main.group()
def agents() -> None:
    """Work with agents that a file describes."""


@agents.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--agent", metavar="NAME", help="Check this table only.")
@click.option(
    "--sample",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Messages of the agent, one on each line: show what each is read as.",
)
def check(file: Path, agent: str | None, sample: Path | None) -> None:
    """
    Show every problem of the agents file FILE, and what would be right.

    The exit code is 2 if a table is wrong, and 1 if messages of the sample are not understood.
    """
    from bridge.commands.agents import check as run

    sys.exit(run(file, agent=agent, sample=sample))
