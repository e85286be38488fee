"""Prints docs/turn.svg, one turn as the bridge measures it: ``python -m tools.turn_picture > docs/turn.svg``."""

from __future__ import annotations

import array
import base64
import json
import sys
from pathlib import Path

from _codec.g711 import mulaw_to_pcm16
from bridge.call.hearing import Hearing

CONVERSATIONS = Path(__file__).parents[1] / "tests" / "data" / "conversations"
NAME = "04"
BYTES_PER_S = 8000
FRAME_BYTES = 160
SILENCE = b"\xff"
# The agent's audio begins with silence, and comes four times as fast as it plays.
LEAD_S = 0.15
SPEED = 4
ARRIVES_AFTER_S = 0.55
HANGOVER_S = 0.3
AFTER_S = 0.6
COLUMN_BYTES = 80

WIDTH, HEIGHT = 960, 400
LEFT, RIGHT, AXIS_Y = 150, 20, 350
CALLER_Y, ARRIVAL_Y, AGENT_Y = 90, 190, 280
HALF = 50
CALLER, AGENT, INK, FAINT = "#1f6fb2", "#c8571b", "#222222", "#8a8a8a"


def main() -> None:
    """Print the picture."""
    labels = json.loads((CONVERSATIONS / "labels.json").read_text())[NAME]
    caller = (CONVERSATIONS / f"{NAME}-caller.ulaw").read_bytes()[: labels["caller"][0][1]]
    said = len(caller) / BYTES_PER_S
    start, end = labels["agent"][0]
    answer = (CONVERSATIONS / f"{NAME}-agent.ulaw").read_bytes()[start:end]
    audio = SILENCE * round(LEAD_S * BYTES_PER_S) + answer
    arrival_s = said + ARRIVES_AFTER_S
    length_s = arrival_s + len(audio) / BYTES_PER_S + AFTER_S
    caller = caller.ljust(round(length_s * BYTES_PER_S), SILENCE)
    sys.stdout.write(picture(heard(caller, audio, arrival_s), caller, audio, arrival_s, length_s) + "\n")


def heard(caller: bytes, audio: bytes, arrival_s: float) -> Hearing:
    """Let a call hear both sides, frame by frame in the order of time."""
    hearing = Hearing()
    frames = [
        ((at + FRAME_BYTES) / BYTES_PER_S, "caller", caller[at : at + FRAME_BYTES])
        for at in range(0, len(caller), FRAME_BYTES)
    ]
    frames += [
        (arrival_s + at / BYTES_PER_S / SPEED, "agent", audio[at : at + FRAME_BYTES])
        for at in range(0, len(audio), FRAME_BYTES)
    ]
    for now, side, frame in sorted(frames):
        add = hearing.audio.add_caller if side == "caller" else hearing.audio.add_agent
        add(base64.b64encode(frame), now)
    hearing.end(frames[-1][0] + len(audio))
    return hearing


def picture(hearing: Hearing, caller: bytes, audio: bytes, arrival_s: float, length_s: float) -> str:
    """The picture as SVG."""
    [turn] = hearing.turns.last
    assert turn.caller_began is not None
    assert turn.caller_ended is not None
    assert turn.agent_began is not None
    assert turn.agent_ended is not None

    def x(at_s: float) -> float:
        return round(LEFT + at_s / length_s * (WIDTH - LEFT - RIGHT), 1)

    def box(began: float, ended: float, y: float, half: float, colour: str, opacity: float) -> str:
        return (
            f'<rect x="{x(began)}" y="{y - half}" width="{round(x(ended) - x(began), 1)}" height="{2 * half}" '
            f'fill="{colour}" opacity="{opacity}"/>'
        )

    def line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
        return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" {more}/>'

    def text(at: float, y: float, words: str, anchor: str = "start", colour: str = INK) -> str:
        return f'<text x="{at}" y="{y}" text-anchor="{anchor}" fill="{colour}">{words}</text>'

    def shape(mulaw: bytes, began: float, y: float, colour: str) -> str:
        samples = array.array("h", mulaw_to_pcm16(mulaw))
        peaks = [
            max(map(abs, samples[at : at + COLUMN_BYTES])) for at in range(0, len(samples), COLUMN_BYTES)
        ]
        points = [
            (x(began + n * COLUMN_BYTES / BYTES_PER_S), peak * HALF / 13000) for n, peak in enumerate(peaks)
        ]
        path = [f"{at},{round(y - peak, 1)}" for at, peak in points]
        path += [f"{at},{round(y + peak, 1)}" for at, peak in reversed(points)]
        return f'<polygon points="{" ".join(path)}" fill="{colour}"/>'

    ended, began = turn.caller_ended, turn.agent_began
    played_s = len(audio) / BYTES_PER_S
    dashed = 'stroke-dasharray="3 3"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        box(turn.caller_began, ended, CALLER_Y, HALF, CALLER, 0.12),
        box(began, turn.agent_ended, AGENT_Y, HALF, AGENT, 0.12),
        shape(caller, 0, CALLER_Y, CALLER),
        box(arrival_s, arrival_s + played_s / SPEED, ARRIVAL_Y, 8, AGENT, 0.6),
        shape(audio, arrival_s, AGENT_Y, AGENT),
        text(10, CALLER_Y + 4, "The caller"),
        text(10, ARRIVAL_Y + 4, "The agent’s audio"),
        text(10, ARRIVAL_Y + 20, "as it arrives", colour=FAINT),
        text(10, AGENT_Y + 4, "The agent"),
        text(10, AGENT_Y + 20, "as it is heard", colour=FAINT),
        line(x(ended), CALLER_Y - HALF - 22, x(ended), AXIS_Y, INK, dashed),
        line(x(began), CALLER_Y - HALF - 22, x(began), AXIS_Y, INK, dashed),
        line(x(ended), CALLER_Y - HALF - 14, x(began), CALLER_Y - HALF - 14, INK, 'stroke-width="2"'),
        text((x(ended) + x(began)) / 2, CALLER_Y - HALF - 20, f"wait {began - ended:.2f} s", "middle"),
        line(x(ended + HANGOVER_S), CALLER_Y - 18, x(ended + HANGOVER_S), CALLER_Y + 18, FAINT),
        text(x(ended) + 8, CALLER_Y + 36, "the end is known", colour=FAINT),
        text(x(ended) + 8, CALLER_Y + 52, "after 0.3 s of quiet", colour=FAINT),
        text(
            x(arrival_s + played_s / SPEED) + 6,
            ARRIVAL_Y + 4,
            "faster than it plays: it waits at Twilio",
            colour=FAINT,
        ),
        line(x(arrival_s), ARRIVAL_Y - 14, x(arrival_s), AGENT_Y + HALF, FAINT),
        text(x(arrival_s) - 6, AGENT_Y - 4, "silence is part", "end", FAINT),
        text(x(arrival_s) - 6, AGENT_Y + 12, "of the wait", "end", FAINT),
        line(LEFT, AXIS_Y, WIDTH - RIGHT, AXIS_Y, INK),
    ]
    for second in range(int(length_s) + 1):
        parts += [
            line(x(second), AXIS_Y, x(second), AXIS_Y + 5, INK),
            text(x(second), AXIS_Y + 20, f"{second} s", "middle"),
        ]
    return "\n".join([*parts, "</svg>"])


if __name__ == "__main__":
    main()
