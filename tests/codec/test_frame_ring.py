"""The bounded queue of payloads, on both implementations, against a model of its own."""

import base64
import random
import sys
import tracemalloc
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _codec import frame_ring, reference_ring

SAMPLES_PER_MS = 8
FRAME = base64.b64encode(bytes(160))
SEED = 20240517


@pytest.fixture(params=[reference_ring, frame_ring], ids=["python", "cython"], scope="module")
def codec(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


class Model:
    """Model of the ring that keeps raw audio beside its text."""

    def __init__(self, capacity_ms: int) -> None:
        self.capacity_ms = capacity_ms
        self.held: list[tuple[bytes, int]] = []
        self.dropped = 0

    @property
    def samples(self) -> int:
        return sum(samples for _, samples in self.held)

    def push(self, audio: bytes) -> int:
        before = self.dropped
        if len(audio) > self.capacity_ms * SAMPLES_PER_MS:
            self.dropped += 1
        else:
            self.held.append((base64.b64encode(audio), len(audio)))
            while self.samples > self.capacity_ms * SAMPLES_PER_MS or len(self.held) > self.capacity_ms:
                self.held.pop(0)
                self.dropped += 1
        return self.dropped - before

    def pop(self) -> bytes | None:
        return self.held.pop(0)[0] if self.held else None

    def clear(self) -> int:
        removed = len(self.held)
        self.held = []
        return removed


def check(ring, model: Model) -> None:
    assert len(ring) == len(model.held)
    assert ring.samples == model.samples


class TestFrameRing:
    # Any operations in any order do to the ring what they do to the model.
    @settings(max_examples=150, deadline=None)
    @given(
        capacity_ms=st.integers(1, 200),
        operations=st.lists(
            st.one_of(
                st.binary(max_size=6),
                st.integers(0, 1700).map(lambda n: random.Random(n).randbytes(n)),
                st.sampled_from(["pop", "pop", "clear"]),
            ),
            max_size=60,
        ),
    )
    def test_ring_does_as_the_model_does(self, codec, capacity_ms, operations):
        ring, model = codec.FrameRing(capacity_ms), Model(capacity_ms)
        for operation in operations:
            if isinstance(operation, bytes):
                assert ring.push(base64.b64encode(operation)) == model.push(operation)
            elif operation == "pop":
                assert ring.pop() == model.pop()
            else:
                assert ring.clear() == model.clear()
            check(ring, model)
        while model.held:
            assert ring.pop() == model.pop()
        assert ring.pop() is None

    def test_long_run_wraps_and_grows_without_losing_a_byte(self, codec):
        print(f"seed {SEED}")
        rng = random.Random(SEED)
        ring, model = codec.FrameRing(1000), Model(1000)
        for step in range(6000):
            # Fills for a while, then drains, so that the block grows, wraps, is freed and begins anew.
            if rng.random() < (0.6 if step // 500 % 2 else 0.45):
                audio = rng.randbytes(rng.choice([0, 1, 2, 159, 160, 161, 400]))
                assert ring.push(base64.b64encode(audio)) == model.push(audio)
            else:
                assert ring.pop() == model.pop()
            check(ring, model)
        assert model.dropped > 0

    def test_oldest_goes_first_when_full(self, codec):
        ring = codec.FrameRing(60)
        payloads = [base64.b64encode(bytes([i]) * 160) for i in range(5)]
        assert [ring.push(payload) for payload in payloads] == [0, 0, 0, 1, 1]
        assert [ring.pop() for _ in range(4)] == [*payloads[2:], None]

    def test_long_payload_drops_as_many_as_it_needs(self, codec):
        ring = codec.FrameRing(100)
        for _ in range(5):
            ring.push(FRAME)
        assert ring.push(base64.b64encode(bytes(161))) == 2
        assert ring.samples == 3 * 160 + 161

    def test_payload_longer_than_the_ring_is_itself_dropped(self, codec):
        ring = codec.FrameRing(20)
        ring.push(FRAME)
        assert ring.push(base64.b64encode(bytes(161))) == 1
        assert (len(ring), ring.pop()) == (1, FRAME)

    def test_payload_exactly_as_long_as_the_ring_is_held(self, codec):
        ring = codec.FrameRing(20)
        assert ring.push(FRAME) == 0
        assert ring.samples == 20 * SAMPLES_PER_MS

    def test_empty_payloads_are_bounded_too(self, codec):
        ring = codec.FrameRing(3)
        assert [ring.push(b"") for _ in range(5)] == [0, 0, 0, 1, 1]
        assert (len(ring), ring.samples, ring.pop()) == (3, 0, b"")

    def test_samples_are_those_of_all_payloads(self, codec):
        ring = codec.FrameRing(100)
        for _ in range(3):
            ring.push(base64.b64encode(bytes(7)))
        assert ring.samples == 21

    @pytest.mark.parametrize("odd", [b"=", b"==", b"===", b"A", b"A=", b"AA", b"AAA", b"AAAA=", b"AAAAA"])
    def test_text_that_is_not_base64_keeps_the_books_straight(self, codec, odd):
        ring = codec.FrameRing(10)
        for _ in range(25):
            ring.push(odd)
            ring.push(b"AAAA")
        while ring.pop() is not None:
            pass
        assert (len(ring), ring.samples) == (0, 0)

    def test_clear_empties_the_ring_and_counts(self, codec):
        ring = codec.FrameRing(100)
        for _ in range(4):
            ring.push(FRAME)
        assert (ring.clear(), ring.clear()) == (4, 0)
        assert (len(ring), ring.samples, ring.pop()) == (0, 0, None)

    @pytest.mark.parametrize("capacity_ms", [0, -1, 24 * 3600 * 1000 + 1])
    def test_impossible_capacity_is_refused(self, codec, capacity_ms):
        with pytest.raises(ValueError, match=f"capacity_ms must be from 1 to 86400000, got {capacity_ms}"):
            codec.FrameRing(capacity_ms)

    def test_capacity_is_readable_and_fixed(self, codec):
        ring = codec.FrameRing(70)
        assert ring.capacity_ms == 70
        with pytest.raises(AttributeError):
            ring.capacity_ms = 80


class TestMemory:
    """Only the compiled ring promises these."""

    def test_ring_holds_no_reference_to_what_was_pushed(self):
        ring = frame_ring.FrameRing(1000)
        payload = bytes(bytearray(FRAME))
        before = sys.getrefcount(payload)
        ring.push(payload)
        assert sys.getrefcount(payload) == before
        popped = ring.pop()
        assert popped == payload
        assert popped is not payload

    @pytest.mark.parametrize("emptied_by", ["pop", "clear"])
    def test_empty_ring_costs_next_to_nothing(self, emptied_by):
        tracemalloc.start()
        try:
            rings = [frame_ring.FrameRing(30_000) for _ in range(100)]
            idle_bytes = tracemalloc.get_traced_memory()[0]
            assert idle_bytes < 100 * 250
            for ring in rings:
                for _ in range(50):
                    ring.push(FRAME)
            assert tracemalloc.get_traced_memory()[0] > 100 * 50 * len(FRAME)
            for ring in rings:
                while len(ring):
                    getattr(ring, emptied_by)()
            assert tracemalloc.get_traced_memory()[0] < idle_bytes + 10_000
        finally:
            tracemalloc.stop()

    def test_ring_that_goes_gives_its_memory_back(self):
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(200):
                frame_ring.FrameRing(30_000).push(FRAME)
            assert tracemalloc.get_traced_memory()[0] < before + 10_000
        finally:
            tracemalloc.stop()

    def test_full_ring_stays_within_twice_its_text(self):
        tracemalloc.start()
        try:
            ring = frame_ring.FrameRing(10_000)
            for _ in range(5000):
                ring.push(FRAME)
            assert len(ring) == 500
            assert tracemalloc.get_traced_memory()[0] < 2 * 500 * (len(FRAME) + 4) + 10_000
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize("held", [0, 4])
    def test_failed_growth_leaves_the_ring_as_it_was(self, held):
        testcapi = pytest.importorskip("_testcapi")
        ring = frame_ring.FrameRing(1000)
        for _ in range(held):
            ring.push(FRAME)
        long = base64.b64encode(bytes(3000))
        failed = False
        testcapi.set_nomemory(0, 1)
        try:
            ring.push(long)
        except MemoryError:
            failed = True
        finally:
            testcapi.remove_mem_hooks()
        assert failed
        assert (len(ring), ring.samples) == (held, 20 * held * SAMPLES_PER_MS)
        assert ring.push(long) == 0
        assert [ring.pop() for _ in range(held + 2)] == [FRAME] * held + [long, None]

    @pytest.mark.parametrize("wrong", ["text", None, 7])
    def test_other_types_are_refused(self, wrong):
        with pytest.raises(TypeError):
            frame_ring.FrameRing(100).push(wrong)
