"""The queue of audio in plain Python: the specification of `_codec.frame_ring`, and the oracle of its tests."""

from collections import deque

from _codec.reference import decoded_bytes

SAMPLES_PER_MS = 8
MAX_ITEMS = 8192
MAX_CAPACITY_MS = 24 * 3600 * 1000


class FrameRing:
    """A bounded queue of base64 payloads; described at `_codec.frame_ring.FrameRing`."""

    def __init__(self, capacity_ms: int) -> None:
        if not 1 <= capacity_ms <= MAX_CAPACITY_MS:
            raise ValueError(f"capacity_ms must be from 1 to {MAX_CAPACITY_MS}, got {capacity_ms}")
        self._capacity_ms = capacity_ms
        self._payloads: deque[bytes] = deque()
        self._samples = 0
        self._pushed = 0
        self._items: deque[tuple[int, object]] = deque()

    @property
    def capacity_ms(self) -> int:
        return self._capacity_ms

    @property
    def samples(self) -> int:
        """Duration of the payloads held, in samples of 8 kHz, which are bytes of mu-law."""
        return self._samples

    def __len__(self) -> int:
        return len(self._payloads)

    def push(self, payload: bytes) -> int:
        """
        Queue a payload.

        Returns:
            The number of payloads dropped for it.
        """
        capacity = self._capacity_ms * SAMPLES_PER_MS
        added = decoded_bytes(payload)
        dropped = 0
        if added > capacity:
            dropped = 1
        else:
            while self._samples + added > capacity or len(self._payloads) >= self._capacity_ms:
                self.pop()
                dropped += 1
            self._payloads.append(payload)
            self._pushed += 1
            self._samples += added
        return dropped

    def pop(self) -> bytes | None:
        """Remove and return the oldest payload, None if there is none."""
        if not self._payloads:
            return None
        payload = self._payloads.popleft()
        self._samples -= decoded_bytes(payload)
        return payload

    def clear(self) -> int:
        """Remove all payloads and return how many there were."""
        removed = len(self._payloads)
        self._payloads.clear()
        self._samples = 0
        return removed

    @property
    def item_count(self) -> int:
        return len(self._items)

    def push_item(self, item: object) -> bool:
        """Queue an item behind all payloads; returns False if 8192 wait already."""
        if len(self._items) == MAX_ITEMS:
            return False
        self._items.append((self._pushed, item))
        return True

    def pop_item(self) -> object:
        """Remove and return the oldest item if no payload stands before it, otherwise None."""
        if not self._items or self._items[0][0] > self._pushed - len(self._payloads):
            return None
        return self._items.popleft()[1]

    def clear_items(self) -> None:
        """Remove all items."""
        self._items.clear()
