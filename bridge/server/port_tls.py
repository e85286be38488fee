"""TLS on the bridge's own port."""

from __future__ import annotations

import ssl
from pathlib import Path


def port_tls(certificate: str, key: str) -> ssl.SSLContext | None:
    """
    The context of a server with the certificate chain and the key of these PEM files; None without files.

    Raises:
        OSError: One of them cannot be read, or they do not fit; the text names the setting to change.
    """
    if not certificate:
        return None
    for setting, path in (("BRIDGE_TLS_CERT", certificate), ("BRIDGE_TLS_KEY", key)):
        try:
            # The error of `load_cert_chain` would not say which file it is.
            Path(path).read_bytes()
        except OSError as error:
            raise OSError(f"{setting}: {path} cannot be read: {error.strerror}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without this OpenSSL asks for the password of an encrypted key at the terminal, and the process waits.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise OSError(
                "BRIDGE_TLS_KEY: is not the key of the first certificate in BRIDGE_TLS_CERT"
            ) from None
        raise OSError(
            "BRIDGE_TLS_CERT, BRIDGE_TLS_KEY: must be PEM files of a certificate chain and of its key, "
            f"not encrypted ({error.reason or error})"
        ) from None
    return context
