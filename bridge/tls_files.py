"""The files of TLS on the bridge's own port."""

from __future__ import annotations

import ssl
from pathlib import Path


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
