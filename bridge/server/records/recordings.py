"""
Stereo recordings of calls: the caller left, what he hears right.

The loop collects audio in a `Recorder`, which hands it on twice a second; a thread writes it. What goes wrong ends the
recording, and not the call. Where Opus is wanted, an `Encoder` replaces the files that are finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from _codec import Recorder
from bridge.metrics import Metrics
from bridge.server.records.disk import Disk
from bridge.server.records.encoder import REASONS as ENCODING_REASONS
from bridge.server.records.encoder import Encoder
from bridge.server.records.flights import FilesUnavailableError
from bridge.server.records.opus_file import DISK_ERROR, DISK_FULL, ENCODED, FULL
from bridge.server.records.timeline import Batch, Timeline
from bridge.server.records.wav import WavFile

log = structlog.get_logger()

# Of a side, between two ticks; a message of an agent has at most 16 MiB.
MOST_COLLECTED_BYTES = 32 << 20
# How long a question waits for the disk.
ASK_S = 2.0
# Only such files are ever removed.
NAME = re.compile(r"(CA[0-9a-f]{32})-[0-9]{1,9}-[0-9]{8}T[0-9]{6}Z\.(wav|opus|opus\.part)")
# A WAV file that has not changed for so long may have been left behind: the encoder learns by its lock whether it was.
# A younger one may wait in the queue of another process.
LEFT_S = 600.0
# Why recordings end: with their calls, or before.
CALL_ENDED, BEHIND, FAULT = "call_ended", "behind", "fault"
REASONS = (CALL_ENDED, DISK_FULL, DISK_ERROR, BEHIND, FAULT)


class RecordingFile:
    """
    The file of one call; all but ``problem`` belongs to the thread.

    Args:
        on_finished: Called with the path of a file that has all that could be written.

    Attributes:
        problem: Why it cannot be written any more; one of `REASONS`.
        detail: In the system's words.
    """

    def __init__(self, path: Path, disk: Disk, on_finished: Callable[[Path], object]) -> None:
        self.problem = ""
        self.detail = ""
        self._path = path
        self._disk = disk
        self._on_finished = on_finished
        self._timeline = Timeline()
        # Made with the first batch.
        self._file: WavFile | None = None

    def add(self, batch: Batch) -> None:
        """Write what is settled by this batch."""
        self._guard(partial(self._add, batch))

    def finish(self, until: int) -> None:
        """Write the rest of a call that ends at this position."""
        self._guard(partial(self._finish, until))
        # One that met a problem is left for a later look.
        if not self.problem:
            self._on_finished(self._path)

    def _guard(self, act: Callable[[], None]) -> None:
        if self.problem:
            return
        before = self._timeline.waiting_bytes
        try:
            act()
        except Exception:
            log.exception("fault in a recording", file=self._path.name)
            self.problem = FAULT
            self._close()
        if self.problem:
            self._timeline = Timeline()
        self._disk.kept_bytes += self._timeline.waiting_bytes - before

    def _add(self, batch: Batch) -> None:
        self._timeline.add(batch)
        self._write(self._timeline.take(batch.until))

    def _finish(self, until: int) -> None:
        self._write(self._timeline.take_rest(until))
        # Audio that nobody will hear may be left.
        self._timeline = Timeline()
        self._close()

    def _write(self, audio: bytes) -> None:
        try:
            if self._file is None:
                self._file = WavFile(self._path)
            if audio:
                self._file.write(audio)
        except OSError as error:
            self.detail = str(error.strerror)
            self.problem = DISK_FULL if error.errno in FULL else DISK_ERROR
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError as error:
                self.detail, self.problem = str(error.strerror), self.problem or DISK_ERROR


class Recording:
    """
    The recording of one call, as the loop sees it.

    Args:
        recorder: Collects the audio.
        on_end: Called once, on any thread, with one of `REASONS`, the name and a detail.

    Attributes:
        name: The file's, in the end.
        ended: One of `REASONS` once nothing more is collected.
    """

    def __init__(
        self,
        name: str,
        recorder: Recorder,
        file: RecordingFile,
        disk: Disk,
        on_end: Callable[[str, str, str], None],
    ) -> None:
        self.name = name
        self.recorder = recorder
        self.ended = ""
        self._file = file
        self._disk = disk
        self._on_end = on_end

    @property
    def why_early(self) -> str:
        """Why it ended before its call; empty if it did not."""
        return "" if self.ended == CALL_ENDED else self.ended

    def on_tick(self) -> None:
        """Hand on what was collected; call it a few times a second."""
        self._guard(self._hand_on)

    def finish(self) -> None:
        """The call is over. A second end changes nothing."""
        self._guard(self._hand_on)
        self._guard(self._close)

    def _guard(self, act: Callable[[], None]) -> None:
        if self.ended:
            return
        try:
            act()
        except Exception:
            # The call must not end of it.
            log.exception("fault in a recording", file=self.name)
            self._end(FAULT)

    def _hand_on(self) -> None:
        until = self.recorder.position
        caller, late_bytes, runs = self.recorder.take()
        audio_bytes = len(caller) + sum(len(audio) for _, audio in runs)
        job = partial(self._file.add, Batch(until, caller, late_bytes, runs))
        if self._file.problem:
            self._end(self._file.problem)
        elif self.recorder.is_full or not self._disk.put(job, audio_bytes):
            self._end(BEHIND)

    def _close(self) -> None:
        self.ended = CALL_ENDED
        until = self.recorder.position
        self.recorder.close()
        self._disk.put(partial(self._write_rest, until))

    def _write_rest(self, until: int) -> None:
        # On the thread, which alone knows whether all of it is there.
        self._file.finish(until)
        self._on_end(self._file.problem or CALL_ENDED, self.name, self._file.detail)

    def _end(self, reason: str) -> None:
        self.ended = reason
        self._disk.put(partial(self._file.finish, self.recorder.position))
        self.recorder.close()
        self._on_end(reason, self.name, self._file.detail)


class Recordings:
    """
    The recordings of one process.

    Args:
        directory: Has the files; other processes may use it too.
        keep_s: For how long.
        is_opus: Encode each recording once it is over.
        clock: Unix time.
    """

    def __init__(
        self,
        directory: Path,
        keep_s: float,
        metrics: Metrics,
        *,
        is_opus: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._keep_s = keep_s
        self._metrics = metrics
        self._clock = clock
        # None: the files stay as they are.
        self._encoder = Encoder(self._on_encoded) if is_opus else None
        self._disk = Disk(self._look)
        metrics.recording_waiting_bytes.set_function(lambda: self._disk.waiting_bytes)
        for reason in REASONS:
            metrics.recordings.labels(reason)
        for reason in ENCODING_REASONS:
            metrics.recordings_encoded.labels(reason)

    def start(self, call_sid: str, attempt: int, opened_at: float) -> Recording:
        """
        Begin to record a call.

        Args:
            attempt: Tells the recordings of one call by several processes apart.
            opened_at: When its media socket was opened, by `time.monotonic`: the recording begins with it.
        """
        began = time.gmtime(self._clock() - (time.monotonic() - opened_at))
        path = self._directory / f"{call_sid}-{attempt}-{time.strftime('%Y%m%dT%H%M%SZ', began)}.wav"
        file = RecordingFile(path, self._disk, self._on_finished)
        name = path.with_suffix(".opus").name if self._encoder else path.name
        self._metrics.recordings_open.inc()
        return Recording(name, Recorder(opened_at, MOST_COLLECTED_BYTES), file, self._disk, self._on_end)

    def _on_end(self, reason: str, name: str, detail: str) -> None:
        self._metrics.recordings_open.dec()
        self._metrics.recordings.labels(reason).inc()
        if reason != CALL_ENDED:
            log.warning("recording is not whole", file=name, reason=reason, detail=detail)

    def _on_finished(self, path: Path) -> None:
        if self._encoder is not None:
            self._encoder.put(path)

    def _on_encoded(self, reason: str, name: str, detail: str) -> None:
        self._metrics.recordings_encoded.labels(reason).inc()
        if reason != ENCODED:
            log.warning("recording stays a WAV file", file=name, reason=reason, detail=detail)

    async def forget(self, call_sid: str) -> bool:
        """
        Remove the recordings of a call that is over; returns whether there was any.

        Raises:
            FilesUnavailableError: The disk does not answer in time, or they cannot be removed.
        """
        try:
            async with asyncio.timeout(ASK_S):
                return await self._disk.ask(partial(self._remove, call_sid))
        except OSError as error:
            # Among them TimeoutError.
            raise FilesUnavailableError("BRIDGE_RECORD_DIR") from error

    async def stop(self) -> None:
        """Write what waits, within a bound."""
        await self._disk.close()
        if self._encoder is not None:
            await self._encoder.stop()

    def _remove(self, call_sid: str) -> bool:
        is_any = False
        # An encoding may put one file in the place of another meanwhile.
        while paths := [path for path in self._files() if path.name.startswith(call_sid)]:
            is_any = True
            for path in paths:
                path.unlink(missing_ok=True)
        return is_any

    def _look(self) -> None:
        self._remove_old()
        if self._encoder is not None:
            self._encode_left(self._encoder)

    def _encode_left(self, encoder: Encoder) -> None:
        # What is wrong with the directory is a line of the log already; one file that is gone waits for the next look.
        with contextlib.suppress(OSError):
            wavs = [path for path in self._files() if path.suffix == ".wav"]
            encoder.look(wavs, [path for path in wavs if self._clock() - path.stat().st_mtime >= LEFT_S])

    def _remove_old(self) -> None:
        try:
            for path in self._files():
                # Another process, or an encoder, may be first.
                with contextlib.suppress(FileNotFoundError):
                    if self._clock() - path.stat().st_mtime >= self._keep_s:
                        path.unlink()
        except OSError as error:
            log.warning("old recordings cannot be removed", problem=str(error))

    def _files(self) -> list[Path]:
        return [path for path in self._directory.iterdir() if NAME.fullmatch(path.name)]
