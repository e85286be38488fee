"""
Puts audio into messages of the peer's format: wrapped in text, numbered, with marks behind it, transcoded or binary.

No Python object is made for a frame. Failures are those of `FrameWriter.write_frame`.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdio cimport snprintf

from _codec.base64_text cimport decode_c, decoded_bytes_c, encode_c, encoded_bytes
from _codec.call_audio cimport CallAudio
from _codec.fetch cimport fetch
from _codec.frame_writer cimport TRANSPORT_BYTES
from _codec.media_json cimport Envelope
from _codec.put_text cimport put, put_number
from _codec.rfc6455 cimport BINARY, TEXT
from _codec.scratch cimport Scratch
from _codec.speech_meter cimport SpeechMeter
from _codec.transcode cimport FromMulaw
from _codec.websocket cimport WebSocket

import re

cdef enum:
    # A prefix with numbers: its texts, and three numbers of at most 20 digits.
    HEAD_BYTES = 512
    NUMBERS_BYTES = 60
    # "g", a 32-bit number, "-", a 64-bit number, and the end.
    MARK_NAME_BYTES = 40
    # Twilio's, with the stream's id.
    PREFIX_BYTES = 128

# A mark's name: its generation, and the bytes of audio that went out before it.
cdef const char* MARK_NAME_FORMAT = b"g%u-%llu"
MARK_NAME = re.compile(r"g([0-9]{1,10})-([0-9]{1,20})")

cdef size_t AUDIO_BYTES = CallAudio.__basicsize__
cdef size_t METER_BYTES = SpeechMeter.__basicsize__

# Shared by all sockets of the process, which has one event loop: they hold nothing between two callbacks.
cdef Scratch mulaw_out = Scratch()
cdef Scratch samples_out = Scratch()
cdef Scratch text_out = Scratch()


@cython.auto_pickle(False)
cdef class AudioWriter(WebSocket):
    """A WebSocket that sends audio; subclasses say when, and set the format."""

    def __cinit__(self, *_, **__):
        self.prefix = b""
        self.suffix = b""

    cdef int set_format_out(
        self, Envelope envelope, bint is_binary_out, tuple numbered, FromMulaw encode
    ) except -1:
        """As `Wire.set_format` has it."""
        if numbered is not None and len(envelope.prefix) + sum(map(len, numbered)) > HEAD_BYTES - NUMBERS_BYTES:
            raise ValueError(f"prefix and texts must have at most {HEAD_BYTES - NUMBERS_BYTES} bytes")
        self.prefix = envelope.prefix
        self.suffix = envelope.suffix
        self.is_binary_out = is_binary_out
        self.numbered = numbered
        self.encode = encode
        return 0

    def set_marks(self, bytes prefix not None, bytes suffix not None, Py_ssize_t every_bytes):
        """
        Send a mark, ``prefix``, name, ``suffix``, after every ``every_bytes`` of audio sent.

        The name is ``g<generation>-<bytes>``, which `MARK_NAME` matches: how often the audio was cleared, and the
        bytes of audio sent. A payload longer than ``every_bytes`` is sent in pieces of about that length.

        Raises:
            ValueError: If ``every_bytes`` is below 3, a group of base64.
        """
        if every_bytes < 3:
            raise ValueError(f"every_bytes must be at least 3, got {every_bytes}")
        self.mark_prefix = prefix
        self.mark_suffix = suffix
        self.mark_every_bytes = every_bytes
        self.bytes_since_mark = 0
        self.generation = 0

    cpdef unsigned long long next_number(self):
        """Take the number of the next message sent, from 1."""
        self.messages_numbered += 1
        return self.messages_numbered

    cdef void fetch_for_writing(self, int hop) noexcept:
        if hop == 2:
            fetch(<void*>self.native_transport, TRANSPORT_BYTES)
            fetch(<void*>self.prefix, PREFIX_BYTES)
            if self.call_audio is not None:
                fetch(<void*>self.call_audio, AUDIO_BYTES)
        elif hop == 3 and self.call_audio is not None:
            fetch(<void*>self.call_audio.agent, METER_BYTES)

    cdef int write_audio(self, const char* payload, Py_ssize_t n) except -1:
        cdef Py_ssize_t audio_bytes = decoded_bytes_c(payload, n)
        self.audio_out_frames += 1
        self.ahead_bytes += audio_bytes
        if self.call_audio is not None:
            self.call_audio.add_agent_c(payload, n)
        if self.mark_every_bytes > 0:
            return self.write_marked_audio(payload, n)
        if self.is_binary_out or self.encode is not None:
            self.write_other_audio(payload, n)
        elif self.numbered is not None:
            self.write_numbered_audio(payload, n)
        else:
            self.write_text_audio(payload, n)
        self.audio_out_bytes += <unsigned long long>audio_bytes
        return 0

    cdef int write_text_audio(self, const char* payload, Py_ssize_t n) except -1:
        return self.write_frame(
            TEXT,
            PyBytes_AS_STRING(self.prefix), PyBytes_GET_SIZE(self.prefix),
            payload, n,
            PyBytes_AS_STRING(self.suffix), PyBytes_GET_SIZE(self.suffix),
        )

    cdef int write_numbered_audio(self, const char* payload, Py_ssize_t n) except -1:
        # `set_format_out` has seen that the texts and the numbers fit.
        cdef char head[HEAD_BYTES]
        cdef Py_ssize_t used = put(head, 0, self.prefix)
        used = put_number(head, used, self.next_number())
        used = put(head, used, <bytes>self.numbered[0])
        used = put_number(head, used, self.audio_out_frames)
        used = put(head, used, <bytes>self.numbered[1])
        used = put_number(head, used, self.audio_out_bytes // 8)
        used = put(head, used, <bytes>self.numbered[2])
        return self.write_frame(
            TEXT, head, used, payload, n, PyBytes_AS_STRING(self.suffix), PyBytes_GET_SIZE(self.suffix)
        )

    cdef int write_marked_audio(self, const char* payload, Py_ssize_t n) except -1:
        cdef Py_ssize_t piece, audio_bytes
        cdef Py_ssize_t most = self.mark_every_bytes // 3 * 4
        cdef char name[MARK_NAME_BYTES]
        while True:
            piece = n if decoded_bytes_c(payload, n) <= self.mark_every_bytes else most
            audio_bytes = decoded_bytes_c(payload, piece)
            self.write_text_audio(payload, piece)
            self.audio_out_bytes += <unsigned long long>audio_bytes
            self.bytes_since_mark += audio_bytes
            payload += piece
            n -= piece
            # A piece in whole groups may be two bytes short of the interval.
            if self.bytes_since_mark + 2 >= self.mark_every_bytes:
                self.bytes_since_mark = 0
                audio_bytes = snprintf(
                    name, MARK_NAME_BYTES, MARK_NAME_FORMAT, self.generation, self.audio_out_bytes
                )
                self.write_frame(
                    TEXT,
                    PyBytes_AS_STRING(self.mark_prefix), PyBytes_GET_SIZE(self.mark_prefix),
                    name, audio_bytes,
                    PyBytes_AS_STRING(self.mark_suffix), PyBytes_GET_SIZE(self.mark_suffix),
                )
            if n == 0:
                return 0

    cdef int write_other_audio(self, const char* payload, Py_ssize_t n) except -1:
        """Write audio to an agent whose format is not the base64 text of mu-law."""
        cdef char* audio = mulaw_out.room(n)
        cdef char* converted
        n = decode_c(payload, n, audio)
        if n == 0:
            return 0
        if self.encode is not None:
            converted = samples_out.room(self.encode.out_bytes(n))
            n = self.encode.convert_c(audio, n, converted)
            audio = converted
        if self.is_binary_out:
            return self.write_frame(BINARY, audio, n, NULL, 0, NULL, 0)
        converted = text_out.room(encoded_bytes(n))
        return self.write_text_audio(converted, encode_c(audio, n, converted))
