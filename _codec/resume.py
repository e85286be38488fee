"""
Resumes reading after a pause, by a private method of aiofastnet's TLS transport.

A resumed TLS transport reads its socket before it looks at bytes that it has read but not decrypted. Those bytes wait
until the peer sends more; they are lost if the peer has closed; and if they fill their buffer, the connection is
dropped.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from importlib.metadata import version

import aiofastnet

# The size of a TLS transport's buffers: two records. Bytes in there do not count as congestion, and an interrupt cannot
# recall them.
TLS_BUFFER_BYTES = 32768
# The test reads less than a TLS record at a time, and pauses after each read.
_READ_BYTES = 1000
_RECORD_BYTES = 16384
_RECORDS = 3
_TEST_S = 5.0


def resume_reading(
    transport: asyncio.Transport | aiofastnet.Transport, is_wanted: Callable[[], bool]
) -> None:
    """
    Resume reading; deliver first the bytes that a TLS transport has already read.

    TLS resumes in the next turn of the loop, if ``is_wanted`` still says so.
    """
    retry = getattr(transport, "_retry_ssl_read", None)
    if retry is None:
        transport.resume_reading()
    else:
        asyncio.get_running_loop().call_soon(_resume_tls, transport, retry, is_wanted)


def _resume_tls(
    transport: asyncio.Transport | aiofastnet.Transport,
    retry: Callable[[], None],
    is_wanted: Callable[[], bool],
) -> None:
    if is_wanted():
        transport.resume_reading()
        # At once: later, the socket may be read first.
        retry()


async def self_test() -> None:
    """
    Pause a TLS connection of this process with itself again and again in the middle of what has arrived.

    Raises:
        RuntimeError: If the rest does not come: the installed aiofastnet does not do what `resume_reading` expects.
    """
    loop = asyncio.get_running_loop()
    # Without certificates, which nobody looks at here. Where these ciphers are forbidden, nothing can be tried.
    contexts = [ssl.SSLContext(protocol) for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)]
    for context in contexts:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.set_ciphers("aNULL:@SECLEVEL=0")
        except ssl.SSLError:
            return
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    reader = _Reader(loop.create_future())
    transports: list[asyncio.Transport] = []
    try:
        async with asyncio.timeout(_TEST_S):
            opened = await asyncio.gather(
                aiofastnet.connect_accepted_socket(loop, asyncio.Protocol, ends[0], ssl=contexts[0]),
                aiofastnet.create_connection(
                    loop,
                    lambda: reader,
                    sock=ends[1],
                    ssl=contexts[1],
                    server_hostname="self-test",
                    ssl_incoming_bio_size=TLS_BUFFER_BYTES,
                ),
            )
            transports = [transport for transport, _ in opened]
            opened[0][0].write(bytes(_RECORDS * _RECORD_BYTES))
            await reader.done
    except (OSError, TimeoutError) as error:
        raise RuntimeError(
            f"aiofastnet {version('aiofastnet')} does not resume TLS the way this program does it: "
            "install the version that the package pins"
        ) from error
    finally:
        for transport in transports:
            transport.abort()
        for end in ends:
            end.close()
        await asyncio.sleep(0)


class _Reader(asyncio.BufferedProtocol):
    """Pauses at each read, resumes in the next turn, and is done when all have come."""

    _transport: aiofastnet.Transport

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.done = done
        self._room = bytearray(_READ_BYTES)
        self._read_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, aiofastnet.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self._transport.pause_reading()
        asyncio.get_running_loop().call_soon(resume_reading, self._transport, lambda: True)
        self._read_bytes += nbytes
        if self._read_bytes == _RECORDS * _RECORD_BYTES and not self.done.done():
            self.done.set_result(None)
