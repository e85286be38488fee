"""Writes the table of how calls end, from `ENDS`, into docs/design.md: run it from the checkout after a change."""

from pathlib import Path

from bridge.call.ends import ENDS

BEGIN, FINISH = "<!-- ends: begin -->\n", "<!-- ends: end -->\n"
PAGE = Path(__file__).parents[1] / "docs" / "design.md"


def table() -> str:
    lines = [
        "| reason | code to the caller | code to the agent | remembered as | audio plays out | asks Twilio "
        "| flight file |",
        "|---|---|---|---|---|---|---|",
    ]
    for why, end in ENDS.items():
        record = f"`{end.outcome.value}`" if end.outcome else "nothing"
        flags = " | ".join(
            "yes" if flag else "no" for flag in (end.lets_audio_play, end.asks_twilio, end.is_bad)
        )
        lines.append(f"| `{why.value}` | {end.caller_code} | {end.agent_code} | {record} | {flags} |")
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    before, rest = page.split(BEGIN)
    return before + BEGIN + table() + FINISH + rest.split(FINISH)[1]


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
