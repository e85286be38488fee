"""A call between the two stand-ins as a picture: speech, cleared audio and delays."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Patch

from bridge.standins.accounting import Direction, clears_at, interrupt_to_clear_ms
from bridge.standins.agent.session import AgentSession
from bridge.standins.audio import SAMPLE_RATE_HZ, SILENCE, SPOKEN, decode_mulaw, speech
from bridge.standins.twilio.caller import Caller

CALLER = "#1f6fb2"
AGENT = "#c8571b"
CLEARED = "#8a8a8a"
INTERRUPT = "#b3202c"
INK = "#222222"
GRID = "#e4e4e4"
# One column per 10 ms shows the shape of words and draws fast.
COLUMN = SAMPLE_RATE_HZ // 100


def draw_call(
    path: Path, caller: Caller, session: AgentSession, to_agent: Direction, to_caller: Direction
) -> None:
    """Write the picture of a finished call."""
    zero = caller.opened_at
    length_s = caller.closed_at - zero
    style: Any = {
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "axes.edgecolor": "#bbbbbb",
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with plt.rc_context(style):
        figure, (said, heard, delay) = plt.subplots(
            3, 1, figsize=(13, 8), sharex=True, height_ratios=[1.0, 1.0, 0.85], layout="constrained"
        )
        lead = SILENCE * round((session.received[0].at - zero) * SAMPLE_RATE_HZ) if session.received else b""
        agent_heard, caller_heard = lead + b"".join(item.audio for item in session.received), caller.heard()
        _waveform(said, agent_heard, CALLER)
        _waveform(heard, caller_heard, AGENT)
        _panel(said, "The caller speaks:\nwhat the agent received")
        _panel(heard, "The agent speaks:\nwhat the caller heard")
        _mark_cleared(heard, caller, zero)
        _mark_interrupts([said, heard, delay], caller, session, zero)
        if session.ended_at is not None:
            _mark_end([said, heard, delay], session.ended_at - zero, length_s)
        cuts = {item.at - zero: len(item.audio) / SAMPLE_RATE_HZ for item in caller.playout.cleared}
        _captions(said, agent_heard, "caller_", cuts={}, lines=list(cuts), length_s=length_s)
        _captions(heard, caller_heard, "agent_", cuts=cuts, lines=[], length_s=length_s)
        _delays(delay, to_agent, to_caller, zero)
        delay.set_xlabel("seconds since Twilio opened the stream")
        delay.set_xlim(-0.15, length_s)
        title = f"One call through the bridge: {_summary(to_agent, to_caller)}"
        figure.suptitle(title, fontsize=14, fontweight="bold", x=0.012, ha="left")
        figure.savefig(path, dpi=130, facecolor="white")
        plt.close(figure)


def _summary(to_agent: Direction, to_caller: Direction) -> str:
    came, lost = to_agent.received + to_caller.received, to_agent.lost + to_caller.lost
    equal = "byte for byte" if to_agent.byte_equal and to_caller.byte_equal else "NOT byte for byte"
    return f"{came} frames arrived {equal}, {lost or 'none'} lost"


def _waveform(axes: Any, audio: bytes, colour: str, start_s: float = 0.0, **options: Any) -> None:
    samples = np.asarray(decode_mulaw(audio), dtype=float) / 32768
    columns = samples[: len(samples) // COLUMN * COLUMN].reshape(-1, COLUMN)
    at = start_s + np.arange(len(columns)) * COLUMN / SAMPLE_RATE_HZ
    axes.fill_between(at, columns.min(axis=1), columns.max(axis=1), color=colour, linewidth=0.4, **options)


def _panel(axes: Any, title: str) -> None:
    axes.set_ylim(-0.9, 1.65)
    axes.set_yticks([])
    axes.set_ylabel(title, rotation=0, ha="right", va="center", labelpad=12)
    axes.axhline(0, color="#cccccc", linewidth=0.6, zorder=0)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _mark_cleared(axes: Any, caller: Caller, zero: float) -> None:
    """Shade the audio discarded by a clear, at the time that it would play."""
    for cleared in caller.playout.cleared:
        if not cleared.audio:
            continue
        start_s, length_s = cleared.at - zero, len(cleared.audio) / SAMPLE_RATE_HZ
        axes.axvspan(start_s, start_s + length_s, ymin=0.0, ymax=0.64, color="#f0f0f0", zorder=0)
        _waveform(axes, cleared.audio, CLEARED, start_s, alpha=0.45)
        text = f"{length_s:.1f} s sent, then cleared"
        axes.text(start_s + 0.1, -0.86, text, ha="left", va="bottom", fontsize=8.5, color="#666666")


def _mark_interrupts(panels: list[Any], caller: Caller, session: AgentSession, zero: float) -> None:
    took_ms = interrupt_to_clear_ms(session, caller)
    for sent_at, cleared_at, ms in zip(session.interrupts_at, clears_at(caller), took_ms, strict=False):
        for axes in panels:
            axes.axvline(sent_at - zero, color=INTERRUPT, linewidth=1.1)
            axes.axvline(cleared_at - zero, color=INTERRUPT, linewidth=1.1, linestyle=(0, (2, 2)))
        text = f"barge-in: {ms:.1f} ms from interrupt to clear"
        _note(panels[0], sent_at - zero, text, INTERRUPT)


def _mark_end(panels: list[Any], ended_s: float, length_s: float) -> None:
    for axes in panels:
        axes.axvline(ended_s, color=INK, linewidth=1.0, linestyle=(0, (5, 3)))
    text = f"call_ended; the last words play {length_s - ended_s:.1f} s more"
    _note(panels[0], ended_s, text, INK)


def _note(axes: Any, at_s: float, text: str, colour: str) -> None:
    axes.annotate(
        text,
        (at_s, 1.61),
        xytext=(-7, 0),
        textcoords="offset points",
        ha="right",
        va="top",
        color=colour,
        fontsize=9,
    )


def _captions(
    axes: Any, audio: bytes, who: str, *, cuts: dict[float, float], lines: list[float], length_s: float
) -> None:
    """Write the words of each recording above the time of its playing, real or cleared."""
    for name, text in SPOKEN.items():
        recording = speech(name)
        # The beginning is enough, and an interrupted recording has no more.
        at = audio.find(recording[: SAMPLE_RATE_HZ // 2]) if name.startswith(who) else -1
        if at < 0:
            continue
        at_s, lasts_s = at / SAMPLE_RATE_HZ, len(recording) / SAMPLE_RATE_HZ
        cut_s = min([cut for cut in cuts if at_s < cut < at_s + lasts_s], default=at_s + lasts_s)
        cleared_s = cuts.get(cut_s, 0.0)
        words = text.split()
        heard, sent = (round(len(words) * (to - at_s) / lasts_s) for to in (cut_s, cut_s + cleared_s))
        # Words that begin just before the line of an interrupt are written to its right.
        behind = [line + 0.1 for line in lines if at_s <= line < at_s + 0.3]
        _caption(axes, max([at_s, *behind]), (cut_s - at_s) / length_s, words[:heard], INK)
        _caption(axes, cut_s + 0.1, cleared_s / length_s, words[heard:sent], CLEARED)


def _caption(axes: Any, at_s: float, share: float, words: list[str], colour: str) -> None:
    # 11 inches of axes, at about 12 characters of this size an inch.
    wrapped = textwrap.fill(" ".join(words), max(16, int(share * 11 * 12)))
    axes.text(at_s, 0.78, wrapped, ha="left", va="bottom", fontsize=8.5, fontstyle="italic", color=colour)


def _delays(axes: Any, to_agent: Direction, to_caller: Direction, zero: float) -> None:
    handles = []
    for name, direction, colour in (
        ("caller to agent", to_agent, CALLER),
        ("agent to caller", to_caller, AGENT),
    ):
        at = [sent_at - zero for sent_at, _ in direction.delays_ms]
        ms = [max(delay, 0.01) for _, delay in direction.delays_ms]
        axes.scatter(at, ms, s=7, color=colour, alpha=0.55, linewidths=0)
        numbers = direction.summary()
        label = (
            f"{name}: p50 {numbers['delay_p50_ms']:.2f}, p99 {numbers['delay_p99_ms']:.2f} ms" if ms else name
        )
        handles.append(Patch(color=colour, label=label))
    axes.set_yscale("log")
    axes.set_ylim(0.1, max(100.0, *(2 * ms for d in (to_agent, to_caller) for _, ms in d.delays_ms)))
    label = "Added delay of each\nframe, ms (with the\nstand-ins' own work)"
    axes.set_ylabel(label, rotation=0, ha="right", va="center", labelpad=12)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(handles=handles, loc="upper right", ncols=2, fontsize=9, framealpha=0.9, edgecolor="none")
