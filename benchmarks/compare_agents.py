"""Compares the cost of a frame with each agent to retell's, by runs between two runs of retell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.agents import AGENTS, DEFAULT, name_of_run
from benchmarks.compare import ROUNDS_PER_PAIR_MAX, Comparison, Line, MeasureOne, Round, in_short, number
from bridge.standins.process import BridgeError

YARDSTICK = "retell run"
OTHERS = [name for name in AGENTS if name != DEFAULT]


async def compare_agents(
    agents: Sequence[str], rounds: int, measure: MeasureOne, tell: Callable[[str], None]
) -> Comparison:
    """
    Measure until every agent has ``rounds`` ratios, or too many rounds are invalid.

    Each round is retell, the agent, retell; its second retell is the first one of the next round.

    Args:
        measure: Makes one run with the named agent.
    """
    comparison = Comparison()
    waiting = list(agents) * rounds
    most = ROUNDS_PER_PAIR_MAX * len(waiting)
    before = await measure(DEFAULT)
    while waiting and len(comparison.rounds) < most:
        agent = waiting.pop(0)
        try:
            run = await measure(agent)
        except BridgeError as error:
            comparison.left_out[agent] = str(error).splitlines()[0]
            waiting = [name for name in waiting if name != agent]
            continue
        done = Round(before, [run], await measure(DEFAULT), YARDSTICK)
        comparison.rounds.append(done)
        before = done.floor_after
        if done.ratio(run["name"]) is None:
            waiting.append(agent)
            tell(f"round {len(comparison.rounds)} is invalid: {done.why_invalid() or in_short(run)}")
    return comparison


def table(comparison: Comparison) -> str:
    """Return the comparison as text: for each agent its middle run, and its cost relative to retell."""
    lines = [
        f"{'':<16}{'us CPU':>8}  {'of retell':<22}{'':>9}{'added delay p99, ms':>21}",
        f"{'agent':<16}{'/frame':>8}  {'median (spread)':<22}{'allowed':>9}{'to agent':>11}{'to caller':>10}"
        f"{'lost':>7}{'marks':>8}  verdict",
    ]
    retells = [one.floor_before for one in comparison.rounds] + [
        one.floor_after for one in comparison.rounds[-1:]
    ]
    if retells:
        usable = [run for run in retells if run["verdict"] != "invalid"] or retells
        middle = sorted(usable, key=lambda run: run["bridge_cpu_us_per_frame"] or 0.0)[len(usable) // 2]
        lines.append(_row(DEFAULT, middle, "1", ""))
    for agent, played in AGENTS.items():
        name = name_of_run(agent)
        if agent == DEFAULT or not comparison.runs(name):
            continue
        ratio = comparison.ratio(name)
        allowed = "" if played.allowed is None else f"{played.allowed:.2f}"
        is_over = ratio is not None and played.allowed is not None and ratio.median > played.allowed
        of_retell = "invalid" if ratio is None else str(ratio)
        lines.append(_row(agent, comparison.typical(name), of_retell, allowed + ("!" if is_over else " ")))
    lines.append(
        f"{sum(one.why_invalid() is None for one in comparison.rounds)} of {len(comparison.rounds)} rounds count; "
        "! costs more than allowed"
    )
    lines += [f"{name} is left out: {reason}" for name, reason in comparison.left_out.items()]
    lines += [
        f"{agent}: resampled audio is counted and identified by its order and length, but not compared"
        for agent, played in AGENTS.items()
        if played.is_resampled and comparison.runs(name_of_run(agent))
    ]
    return "\n".join(lines)


def _row(agent: str, run: Line, of_retell: str, allowed: str) -> str:
    lost = run["to_agent_lost"] + run["to_caller_lost"]
    return (
        f"{agent:<16}{number(run['bridge_cpu_us_per_frame'], 1, '.2f'):>8}  {of_retell:<22}{allowed:>9}"
        f"{number(run['to_agent_delay_p99_us'], 1e3, '.1f'):>11}"
        f"{number(run['to_caller_delay_p99_us'], 1e3, '.1f'):>10}{lost:>7}{run['marks']:>8}  {in_short(run)}"
    )
