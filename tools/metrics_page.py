"""Prints docs/metrics.md from the metrics: ``python -m tools.metrics_page > docs/metrics.md``."""

from __future__ import annotations

from bridge.metrics import GAUGE_RULES, Metrics, Traffic

HEAD = """\
# Metrics

`GET /metrics` answers in Prometheus' format: to this machine, or to anyone with `BRIDGE_METRICS_TOKEN`. With several
workers each answer is that of all together: values add up, unless the table says otherwise. A histogram is exported
with `_bucket`, `_sum` and `_count` behind its name.

`python -m tools.metrics_page` prints this page.
"""

# Labels of each metric that has some, and what their values are.
LABELS = {
    "bridge_answers": "`result`: `used`, `empty` or [the kind of a failure](answer.md#where-it-fails)",
    "bridge_events": "`type`: `call.started`, `call.ended`, `call.transcript`; `result`: `delivered`, `failed` (a "
    "try), or [why the event is dropped](events.md#what-is-dropped)",
    "bridge_agent_available": "`agent`: each one in use",
    "bridge_agents_passed_over": "`agent`; `why`: `failing`, `full`",
    "bridge_build_info": "`version`, `python`",
    "bridge_agent_connect_seconds": "`agent`",
    "bridge_agent_errors": "`agent`; `code`: the service's own, or `close_1011`, `status_401`, `timeout`, "
    "`certificate`, `connection`, `other`",
    "bridge_agents_replaced": "`agent`",
    "bridge_calls": "`agent`, `route`",
    "bridge_calls_ended": "`why`: [how a call ends](design.md#how-a-call-ends); `agent`",
    "bridge_calls_without_agent_audio": "`agent`",
    "bridge_caller_wait_seconds": "`agent`",
    "bridge_first_agent_audio_seconds": "`agent`",
    "bridge_calls_refused": "`reason`: as in the line of the log",
    "bridge_frames": "`direction`: `from_caller`, `to_agent`, `from_agent`, `to_caller`",
    "bridge_frames_dropped": "`direction`: `to_agent`, `to_caller`; `reason`: `full` (more waited than is held), "
    "`ended` (its socket ended)",
    "bridge_full": "`of`: each agent and route with a limit: `agent:NAME`, `route:NAME`",
    "bridge_http_requests": "`path`, `status`",
    "bridge_recordings": "`reason`: `call_ended`, or [why the recording is not whole](recordings.md#what-goes-wrong)",
    "bridge_recordings_encoded": "`reason`: `encoded`, or [why the WAV file stays](recordings.md#opus)",
    "bridge_messages_ignored": "`side`: `caller`, `agent`; `reason`",
}
RULES = {"min": "the least", "max": "the greatest"}


def page() -> str:
    """Return the page."""
    metrics = Metrics()
    metrics.watch_traffic(Traffic)
    metrics.watch_log(lambda: 0)
    rows = [
        [
            f"`{family.name}{'_total' * (family.type == 'counter')}`",
            f"{family.type}{f', {RULES[rule]}' if (rule := GAUGE_RULES.get(family.name)) else ''}",
            LABELS.get(family.name, ""),
            family.documentation.rstrip("."),
        ]
        for family in sorted(metrics.registry.collect(), key=lambda family: family.name)
    ]
    lines = [["name", "type", "labels", "what it counts"], ["---"] * 4, *rows]
    return HEAD + "\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201
