"""
An HTTP connection from the first byte to the end or the hand-over.

A connection serves one request at a time. Data that the peer sends ahead waits; all buffers and waits are bounded.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import aiofastnet
import picows

from _codec.resume import resume_reading
from bridge.http.app import GiveAway
from bridge.http.connections import Connections
from bridge.http.handover import hand_over
from bridge.http.messages import (
    CONTINUE,
    Request,
    RequestError,
    RequestReader,
    Response,
    encode_request,
    encode_response,
    status_response,
)


class Connection(asyncio.BufferedProtocol):
    """
    One HTTP connection: reads a request, has it handled, writes the answer, and so on.

    A single timer holds the deadline of whatever it is waiting for. Reading goes on, up to a bound, while a
    request is handled, for that is how a client's going away is noticed; its handler is cancelled then.
    """

    _transport: asyncio.Transport

    def __init__(self, connections: Connections, data: bytes = b"") -> None:
        self._connections = connections
        # Makes the transport, until `connection_made`; set by the listener.
        self.opening: asyncio.Task[None] | None = None
        self._limits = connections.limits
        self._peer = ""
        self._data = bytearray(data)  # Received, not yet read.
        self._reader: RequestReader | None = None
        self._task: asyncio.Task[Response] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_read_paused = False
        self._is_write_paused = False
        self._has_peer_finished = False
        self._is_ending = False
        self._discarded_bytes = 0

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, aiofastnet.Transport)
        self._transport = transport
        peername = transport.get_extra_info("peername")
        self._peer = str(peername[0]) if peername else ""
        self.opening = None
        self._begin_request()
        if self._connections.admit(self):
            if self._data:
                self._read()
        else:
            self._transport.write(encode_response(status_response(503)))
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._drop_task()
        self._is_ending = True
        self._connections.forget(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._connections.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_ending:
            self._discarded_bytes += nbytes
            if self._discarded_bytes > self._limits.linger_bytes:
                self.abort()
            return
        self._data += self._connections.read_buffer[:nbytes]
        if self._transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            # The peer sent a reset behind these bytes. uvloop reads a socket with an error once and never again.
            self.abort()
            return
        self._read()

    def eof_received(self) -> bool:
        is_busy = self._task is not None or self._is_write_paused
        if self._is_ending or not is_busy or not self._transport.can_write_eof():
            self._close()
            return False
        # A half-closed client still gets answers; one that has gone looks the same, so they must come soon.
        self._has_peer_finished = True
        self._start_timer(self._limits.half_close_s, self.abort)
        return True

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        if self._reader is None and not self._is_ending:
            self._next_request()

    # Called by the connections.

    def finish(self) -> None:
        """Close once the request that has begun is answered."""
        has_begun = self._reader is not None and self._reader.has_begun
        if not has_begun and self._task is None and not self._is_ending:
            self._close()

    def give_way(self) -> None:
        """End at once: another connection needs the place, and this one waits for a request."""
        if self.opening is not None:
            self.opening.cancel()
        else:
            self.abort()

    def abort(self) -> None:
        self._drop_task()
        self._is_ending = True
        self._transport.abort()

    # A request's way.

    def _begin_request(self) -> None:
        self._connections.idle.pop(self, None)
        self._reader = RequestReader(self._limits, self._peer)
        self._start_timer(self._limits.request_s, self._on_request_late)

    def _next_request(self) -> None:
        self._reader = None
        if self._transport.is_closing():
            return  # The answer could not be written; `connection_lost` is on its way.
        if self._is_write_paused:
            self._start_timer(self._limits.write_s, self.abort)
        elif self._data:
            self._read()
        elif self._has_peer_finished:
            self._close()
        else:
            self._start_timer(self._limits.keep_alive_s, self._close)
            self._connections.idle[self] = None

    def _read(self) -> None:
        if self._task is None and not self._is_write_paused:
            if self._reader is None:
                self._begin_request()
            self._read_request()
        if not self._is_ending and not self._has_peer_finished:
            self._pause_reading(len(self._data) > self._limits.head_bytes)

    def _read_request(self) -> None:
        reader = self._reader
        assert reader is not None
        try:
            is_whole = reader.feed(self._data)
        except RequestError as error:
            if error.problem:
                self._connections.app.on_not_http(error.problem, self._peer)
            self._answer(error.response, is_last=True, is_request_whole=False)
            return
        if is_whole:
            self._connections.silent.pop(self, None)
            self._connections.changed.set()
        if is_whole and reader.websocket_key is not None:
            self._upgrade(reader.request, reader.websocket_key)
        elif is_whole:
            self._handle(reader.request)
        elif self._has_peer_finished:
            self._close()
        elif reader.expects_continue:
            reader.expects_continue = False
            self._transport.write(CONTINUE)

    def _handle(self, request: Request) -> None:
        task = asyncio.create_task(self._connections.app.handle(request), name="http request")
        self._task = task
        self._connections.tasks.add(task)
        task.add_done_callback(self._on_handled)
        if self._has_peer_finished:
            self._start_timer(self._limits.half_close_s, self.abort)
        else:
            self._start_timer(self._limits.handler_s, self._on_handler_late)

    def _on_handled(self, task: asyncio.Task[Response]) -> None:
        self._connections.forget_task(task)
        response = status_response(500)
        if not task.cancelled():
            if error := task.exception():
                self._connections.logger.error("An http request failed.", exc_info=error)
            else:
                response = task.result()
        if task is self._task:  # Else it was late, or the client has gone.
            self._task = None
            self._answer(response)

    def _upgrade(self, request: Request, key: str) -> None:
        is_full = self._connections.upgraded() >= self._limits.upgraded
        if self._has_peer_finished or self._connections.is_closing or is_full:
            self._answer(status_response(503), is_last=True)
            return
        try:
            answer = self._connections.app.upgrade(request)
        except Exception:
            self._connections.logger.exception("A WebSocket upgrade failed.")
            answer = status_response(500)
        if isinstance(answer, Response):
            self._answer(answer, is_last=True)
            return
        if not isinstance(answer, picows.WSListener):
            self._give_away(answer, request)
            return
        self._stop_timer()
        self._pause_reading(False)
        self._is_ending = True
        self._connections.forget(self)
        try:
            hand_over(
                self._transport,
                answer,
                key,
                bytes(self._data),
                max_frame_bytes=self._limits.ws_max_frame_bytes,
                read_buffer_bytes=self._limits.ws_read_buffer_bytes,
            )
        except Exception:
            self._connections.logger.exception("A socket could not be handed over.")
            self._transport.abort()

    def _give_away(self, give: GiveAway, request: Request) -> None:
        if give(self._transport.get_extra_info("socket"), encode_request(request) + self._data):
            # The other process has a descriptor of its own: the connection stays.
            self.abort()
        else:
            self._answer(status_response(503), is_last=True)

    def _answer(self, response: Response, *, is_last: bool = False, is_request_whole: bool = True) -> None:
        reader = self._reader
        assert reader is not None
        is_last = is_last or not reader.is_persistent or self._connections.closes_after_answers
        keep_alive = None if is_last else reader.version
        answer = encode_response(response, is_head=reader.method == "HEAD", keep_alive=keep_alive)
        self._transport.write(answer)
        if not is_last:
            self._next_request()
        elif is_request_whole and not self._data:
            self._close()
        else:
            self._linger()

    def _close(self) -> None:
        """Close when what was written has gone out, or has waited too long for it."""
        self._is_ending = True
        self._connections.silent.pop(self, None)
        self._connections.idle.pop(self, None)
        self._start_timer(self._limits.write_s, self._transport.abort)
        self._transport.close()

    def _linger(self) -> None:
        """Close, but read on for a while: closing with bytes unread sends a reset, which eats the answer."""
        self._data.clear()
        self._pause_reading(False)
        if self._has_peer_finished or not self._transport.can_write_eof():
            self._close()  # TLS reads on by itself until the peer's close_notify, or TLS_SHUTDOWN_S.
            return
        self._is_ending = True
        self._transport.write_eof()
        self._start_timer(self._limits.linger_s, self._transport.abort)

    # Deadlines.

    def _start_timer(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(delay_s, callback)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_request_late(self) -> None:
        assert self._reader is not None
        if self._reader.has_begun:
            self._answer(status_response(408), is_last=True, is_request_whole=False)
        else:
            self._close()

    def _on_handler_late(self) -> None:
        self._connections.logger.warning("No answer to an http request within %s s.", self._limits.handler_s)
        self._drop_task()
        self._answer(status_response(503), is_last=True)

    def _drop_task(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def _pause_reading(self, is_paused: bool) -> None:
        if is_paused != self._is_read_paused:
            self._is_read_paused = is_paused
            if is_paused:
                self._transport.pause_reading()
            else:
                resume_reading(self._transport, lambda: not self._is_read_paused)
