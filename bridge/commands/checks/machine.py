"""The settings, and the limits of the machine that they need."""

from __future__ import annotations

from bridge.commands.finding import Finding, ok, problem, warning
from bridge.descriptors import descriptor_problem, needed_descriptors
from bridge.settings import Settings


def check_settings(settings: Settings) -> list[Finding]:
    """What is doubtful in settings that a bridge starts with."""
    found = [warning("settings", text, "change it unless this is development") for text in settings.warnings]
    if not settings.bridge_validate_signatures:
        text = "signatures are off: anyone who reaches the port can make calls"
        found.append(warning("settings", text, "use that on your own machine only"))
    return found or [ok("settings", f"complete; {settings.bridge_agent} answers")]


def check_certificate(settings: Settings) -> list[Finding]:
    """The certificate of the bridge's own port, if it has one."""
    if not settings.bridge_tls_cert:
        return []
    found = [warning("certificate", *_halves(text)) for text in settings.certificate_doubts()]
    return found or [ok("certificate", "BRIDGE_TLS_CERT is valid")]


def check_descriptors(settings: Settings) -> list[Finding]:
    """Whether a process may open as many files as its calls need; a service may have another limit than a shell."""
    if text := descriptor_problem(settings):
        return [problem("open files", *_halves(text))]
    return [
        ok(
            "open files",
            f"{needed_descriptors(settings)} for {settings.bridge_max_calls} calls are allowed here",
        )
    ]


def _halves(text: str) -> tuple[str, str]:
    fault, _, todo = text.rpartition(": ")
    return fault, todo
