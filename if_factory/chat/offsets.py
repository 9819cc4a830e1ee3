"""Where each answer of a response log begins: a table of whole numbers.

A dict of numbers to numbers takes 115 bytes for each request, twice that while it grows: the log's index would be most
of what a long run holds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

_SLOTS = 1024  # at first; a power of 2, as is every later size
_GONE = 2**64 - 1  # in place of an offset that was dropped


class Offsets:
    """Key -> offset for keys of 16 hexadecimal digits, in 24 to 48 bytes each (open addressing)."""

    def __init__(self) -> None:
        self._make(_SLOTS)

    def _make(self, slots: int) -> None:
        self._keys = array("Q", bytes(8 * slots))
        self._places = array("Q", bytes(8 * slots))  # the offset and 1; 0 in a free slot
        self._filled = self._held = 0  # slots that are not free, and those of them that were not dropped

    def __len__(self) -> int:
        return self._held

    def get(self, key: str) -> int | None:
        place = self._places[self._slot(_number(key))]
        return place - 1 if place and place != _GONE else None

    def put(self, key: str, offset: int) -> None:
        """Raises ``ValueError``: not such a key."""
        number = _number(key)
        if number < 0:
            raise ValueError(f"not a key: {key!r}")
        self._put(number, offset + 1)
        if 3 * self._filled > 2 * len(self._keys):
            before = self._all()
            self._make(2 * len(self._keys))
            for number, place in before:
                self._put(number, place)

    def drop(self, key: str) -> None:
        """Forget where the answer of a key that is there is."""
        self._held -= 1
        self._places[self._slot(_number(key))] = _GONE

    def items(self) -> Iterator[tuple[str, int]]:
        """Keys and offsets in the order of the offsets."""
        return ((f"{number:016x}", place - 1) for place, number in sorted((p, n) for n, p in self._all()))

    def _all(self) -> Iterator[tuple[int, int]]:
        return ((number, place) for number, place in zip(self._keys, self._places, strict=True)
                if place and place != _GONE)

    def _put(self, number: int, place: int) -> None:
        slot = self._slot(number)
        before = self._places[slot]
        self._filled += not before
        self._held += before in (0, _GONE)
        self._keys[slot], self._places[slot] = number, place

    def _slot(self, number: int) -> int:
        """The key's slot, or the free one where it would be."""
        keys, places = self._keys, self._places
        last = len(keys) - 1
        slot = number & last
        while places[slot] and keys[slot] != number:
            slot = (slot + 1) & last
        return slot


def _number(key: str) -> int:
    """-1 for what is no key, which no slot holds."""
    try:
        return int(key, 16) if len(key) == 16 else -1
    except ValueError:
        return -1
