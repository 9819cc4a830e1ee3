"""The index of a response log holds what a dict would."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from if_factory.chat.offsets import Offsets

# Few of them and all alike in their last digits, so that they meet in the same slots.
KEYS = st.integers(0, 40).map(lambda n: f"{n << 58 | 7:016x}"[-16:])
STEPS = st.lists(st.tuples(st.sampled_from(["put", "drop"]), KEYS, st.integers(0, 2**48)), max_size=60)


@given(STEPS)
def test_after_any_steps_it_holds_what_a_dict_does(steps: list[tuple[str, str, int]]) -> None:
    offsets, known = Offsets(), dict[str, int]()
    for step, key, offset in steps:
        if step == "put":
            offsets.put(key, offset)
            known[key] = offset
        elif key in known:
            offsets.drop(key)
            del known[key]
        assert len(offsets) == len(known)
        assert offsets.get(key) == known.get(key)
    assert sorted(offsets.items()) == sorted(known.items())


def test_thousands_of_keys_are_all_found_in_the_order_of_their_offsets() -> None:
    rng, offsets = Random(1), Offsets()
    known = {f"{rng.getrandbits(64):016x}": place for place in range(20_000)}
    for key, place in known.items():
        offsets.put(key, place)
    assert all(offsets.get(key) == place for key, place in known.items())
    assert list(offsets.items()) == list(known.items())
    assert [offsets.get(key) for key in ("", "0" * 16, "no key at all", "g" * 16)] == [None] * 4
