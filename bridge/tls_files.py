"""The files of TLS on the bridge's own port."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

# Certificates are renewed some weeks before their end.
SOON_DAYS = 7


class TlsFilesError(OSError):
    """A file cannot be used; the text begins with ``setting``, the variable to change."""

    def __init__(self, setting: str, text: str) -> None:
        super().__init__(f"{setting}: {text}")
        self.setting = setting


def server_tls(certificate: str, key: str, password: str) -> ssl.SSLContext | None:
    """
    The context of a server with the certificate chain and the key of these PEM files; None without files.

    Args:
        password: Of an encrypted key; else empty.

    Raises:
        TlsFilesError: One of them cannot be read, or they do not fit.
    """
    if not certificate:
        return None
    for setting, path in (("BRIDGE_TLS_CERT", certificate), ("BRIDGE_TLS_KEY", key)):
        try:
            # The error of `load_cert_chain` would not say which file it is. Without the path, which may be a secret in
            # the wrong variable.
            content = Path(path).read_bytes()
        except OSError as error:
            text = f"cannot be read: {error.strerror}; look at its path and permissions"
            raise TlsFilesError(setting, text) from None
        if b"-----BEGIN " not in content:
            raise TlsFilesError(setting, "must be a PEM file, which begins with -----BEGIN")
    is_encrypted = b"ENCRYPTED" in content
    if is_encrypted and not password:
        raise TlsFilesError("BRIDGE_TLS_KEY_PASSWORD", "is missing: the key in BRIDGE_TLS_KEY is encrypted")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a password OpenSSL asks for the one of an encrypted key at the terminal, and the process waits.
        context.load_cert_chain(certificate, key, password=password)
    except ssl.SSLError as error:
        raise _explained(error, is_encrypted) from None
    return context


def _explained(error: ssl.SSLError, is_encrypted: bool) -> TlsFilesError:
    if error.reason == "KEY_VALUES_MISMATCH":
        return TlsFilesError("BRIDGE_TLS_KEY", "is not the key of the first certificate in BRIDGE_TLS_CERT")
    if is_encrypted:
        # OpenSSL has one reason for a wrong password and a damaged file.
        text = "is not the password of BRIDGE_TLS_KEY, or one of the two files is damaged"
        return TlsFilesError("BRIDGE_TLS_KEY_PASSWORD", text)
    text = f"must be a PEM file with the certificate chain, and BRIDGE_TLS_KEY with its key ({error.reason or error})"
    return TlsFilesError("BRIDGE_TLS_CERT", text)


def certificate_doubts(path: str, host: str) -> list[str]:
    """
    What is wrong with the first certificate of a file as of now: a sentence for each, without the setting's name.

    Args:
        host: The name or address that the certificate must have; empty for any.
    """
    # Here, because a bridge behind a proxy does without it.
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    except (OSError, ValueError):
        # Others have said so, or OpenSSL reads what this reader does not.
        return []
    return [*_of_time(certificate), *_of_names(certificate, host)]


def _of_time(certificate: Certificate) -> Iterable[str]:
    now = datetime.datetime.now(datetime.UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends <= now:
        yield f"expired on {ends:%Y-%m-%d}: put a new one in the file and send SIGHUP"
    elif ends - now < datetime.timedelta(days=SOON_DAYS):
        yield f"expires on {ends:%Y-%m-%d}: see that it is renewed, and send SIGHUP then"
    elif begins > now:
        yield f"is valid only from {begins:%Y-%m-%d} on: look at the clock of this machine, or use another one"


def _of_names(certificate: Certificate, host: str) -> Iterable[str]:
    from cryptography import x509

    names, addresses = list[str](), list[str]()
    with contextlib.suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = found.get_values_for_type(x509.DNSName)
        addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    if host and not any(_covers(name, host) for name in (*names, *addresses)):
        shown = ", ".join([*names, *addresses][:3]) or "no name"
        yield (
            f"is for {shown} and not for {host}, the host of PUBLIC_URL: use one for {host}, unless a proxy with its "
            "own stands before"
        )


def _covers(name: str, host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name) == ipaddress.ip_address(host)
    name, host = name.lower(), host.lower()
    # A star stands for one whole label (RFC 6125).
    return name == host or (name.startswith("*.") and name[1:] == host[host.find(".") :])
