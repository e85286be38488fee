"""A certificate authority for one test, and what speaks TLS by its certificates."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

HOST = "127.0.0.1"


class Tls:
    """
    A certificate authority, and the contexts and files of those who trust it or serve by it.

    Args:
        folder: Takes the files.
    """

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self._folder = folder
        # For the variable SSL_CERT_FILE.
        self.trusted = folder / "trusted.pem"
        self._authority.cert_pem.write_to_path(self.trusted)
        self.client = ssl.create_default_context(cafile=self.trusted)

    def server(self, host: str = HOST, **validity: Any) -> ssl.SSLContext:
        """The context of a server with a new certificate; ``validity`` may have ``not_after``."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority.issue_cert(host, **validity).configure_cert(context)
        return context

    def write(self, **options: Any) -> dict[str, Path]:
        """Write a new certificate and its key to the files of the bridge's port; returns its settings."""
        issued = self._authority.issue_cert(HOST, **options)
        files = {"BRIDGE_TLS_CERT": self._folder / "port.pem", "BRIDGE_TLS_KEY": self._folder / "port.key"}
        for n, pem in enumerate(issued.cert_chain_pems):
            pem.write_to_path(files["BRIDGE_TLS_CERT"], append=n > 0)
        issued.private_key_pem.write_to_path(files["BRIDGE_TLS_KEY"])
        return files


def distrust(port: int) -> None:
    """
    Connect as a client that does not know the authority, and tells the server so; blocks.

    Clients of asyncio leave without a word.
    """
    context = ssl.create_default_context()
    with socket.create_connection((HOST, port), timeout=5) as plain:
        try:
            context.wrap_socket(plain, server_hostname=HOST)
        except ssl.SSLCertVerificationError:
            return
    raise AssertionError("the certificate was accepted")


def encrypt(key: Path, password: bytes) -> None:
    """Encrypt the key in a file."""
    private = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
    )
