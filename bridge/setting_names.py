"""Names of variables that are not settings: misspelled, removed, or of something else."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import NamedTuple

from bridge.call.limits import Limits

PREFIX = "bridge_"

# A difference of one letter in five, and so a missing plural, a wrong unit or two letters that changed places.
NEAR = 0.8

# Variables that existed once, and the value that stands in their place.
REMOVED = {
    **{
        PREFIX + name: f"{getattr(Limits(), name):g}"
        for name in (
            "token_s",
            "start_s",
            "close_s",
            "caller_ping_s",
            "agent_ping_s",
            "playout_margin_s",
            "twilio_api_s",
            "send_buffer_bytes",
            "write_high_bytes",
        )
    },
    "bridge_codec": "the compiled codec",
}

# Variables of the build and of the tests.
DEVELOPMENT = re.compile(r"bridge_(sanitize|annotate|test_.+)")

# Kubernetes sets these in every pod beside a service whose name begins with "bridge".
KUBERNETES = re.compile(
    r"bridge_(.+_)?(service_host|service_port(_.+)?|port_[0-9]+_(tcp|udp|sctp)(_(proto|port|addr))?)"
)
KUBERNETES_PORT = re.compile(r"bridge_(.+_)?port")
KUBERNETES_ADDRESS = re.compile(r"(tcp|udp|sctp)://.+")


class Findings(NamedTuple):
    """Sentences about variables: ``problems`` prevent the start, ``warnings`` do not."""

    problems: list[str]
    warnings: list[str]


def check_names(variables: Mapping[str, str], known: Collection[str], of_agents: Collection[str]) -> Findings:
    """
    Look for variables that were meant as settings.

    Args:
        variables: All variables by name in lower case. Their values are not quoted.
        known: The bridge's own settings, and variables that an agents file names.
        of_agents: The settings of the agents in use that are modules.
    """
    findings = Findings([], [])
    prefixes = {name.partition("_")[0] + "_" for name in of_agents} - {PREFIX}
    for name in sorted(variables.keys() - set(known) - set(of_agents)):
        if name.startswith(PREFIX):
            _check_own(name, variables[name], known, findings)
        elif (prefix := name.partition("_")[0] + "_") in prefixes and (
            near := _near(name, of_agents, prefix)
        ):
            findings.warnings.append(
                f"{name.upper()}: unknown setting, ignored; did you mean {near.upper()}?"
            )
    return findings


def _check_own(name: str, value: str, known: Collection[str], findings: Findings) -> None:
    if name in REMOVED:
        findings.warnings.append(
            f"{name.upper()}: no longer a setting, ignored; the value is always {REMOVED[name]}"
        )
    elif _is_of_something_else(name, value):
        return
    elif near := _near(name, known, PREFIX):
        findings.problems.append(f"{name.upper()}: unknown setting; did you mean {near.upper()}?")
    else:
        findings.warnings.append(f"{name.upper()}: unknown setting, ignored")


def _is_of_something_else(name: str, value: str) -> bool:
    if KUBERNETES_PORT.fullmatch(name) and KUBERNETES_ADDRESS.fullmatch(value):
        return True
    return bool(DEVELOPMENT.fullmatch(name) or KUBERNETES.fullmatch(name))


def _near(name: str, names: Collection[str], prefix: str) -> str | None:
    """Find the name that is spelled nearly so; the prefix, which is equal, does not count."""
    stems = [other.removeprefix(prefix) for other in names if other.startswith(prefix)]
    found = get_close_matches(name.removeprefix(prefix), stems, n=1, cutoff=NEAR)
    return prefix + found[0] if found else None
