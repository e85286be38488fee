"""Compares the cost of a frame with each agent to retell's, by runs between two runs of retell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.agents import AGENTS, DEFAULT, agent_of_run
from benchmarks.compare import Comparison, MeasureOne, Rounds, in_floors, lost_of, number
from benchmarks.verdict import Line, in_short

YARDSTICK = "retell run"
OTHERS = [name for name in AGENTS if name != DEFAULT]


async def compare_agents(
    agents: Sequence[str], rounds: int, measure: MeasureOne, tell: Callable[[str], None]
) -> Comparison:
    """
    Measure until every agent has ``rounds`` ratios, or too many rounds are invalid.

    Each round is retell, the agent, retell.

    Args:
        measure: Makes one run with the named agent.
    """
    return await Rounds(measure, tell, floor=DEFAULT, yardstick=YARDSTICK).measure_all(list(agents) * rounds)


def table(comparison: Comparison) -> str:
    """Return the comparison as text: for each agent its middle run, and its cost relative to retell."""
    lines = [
        f"{'':<16}{'us CPU':>8}  {'of retell':<22}{'':>9}{'added delay p99, ms':>21}",
        f"{'agent':<16}{'/frame':>8}  {'median (spread)':<22}{'allowed':>9}{'to agent':>11}{'to caller':>10}"
        f"{'lost':>7}{'marks':>8}  verdict",
    ]
    for name in comparison.names():
        agent = agent_of_run(name)
        allowed = AGENTS[agent].allowed if agent != DEFAULT else None
        ratio = comparison.ratio(name)
        is_over = ratio is not None and allowed is not None and ratio.median > allowed
        shown = "" if allowed is None else f"{allowed:.2f}"
        lines.append(
            _row(
                agent,
                comparison.typical(name),
                in_floors(ratio, agent == DEFAULT),
                shown + ("!" if is_over else " "),
            )
        )
    lines += [*comparison.end_of_table(), "! costs more than allowed"]
    return "\n".join(lines)


def _row(agent: str, run: Line, of_retell: str, allowed: str) -> str:
    return (
        f"{agent:<16}{number(run['bridge_cpu_us_per_frame'], 1, '.2f'):>8}  {of_retell:<22}{allowed:>9}"
        f"{number(run['to_agent_delay_p99_us'], 1e3, '.1f'):>11}"
        f"{number(run['to_caller_delay_p99_us'], 1e3, '.1f'):>10}{lost_of(run):>7}{run['marks']:>8}  {in_short(run)}"
    )
