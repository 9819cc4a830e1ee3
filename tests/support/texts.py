"""Texts for tests that say something new in every sentence: a text that goes round in circles is refused."""

_WHO = ["boat", "keeper", "baker", "nurse", "pilot", "miller", "teacher", "sailor", "mason", "potter", "painter",
        "farmer", "weaver"]
_DID = ["brought", "carried", "sold", "mended", "counted", "hid", "washed"]
_WHAT = ["lamp", "rope", "sail", "net", "anchor", "crab", "shell", "buoy", "barrel", "ladder", "kettle"]
_WHERE = ["harbour", "mill", "school", "market", "bridge"]


def story(sentences: int) -> str:
    """That many different sentences, the same every time."""
    return " ".join(f"The {_WHO[i % 13]} {_DID[i % 7]} a {_WHAT[i % 11]} near the {_WHERE[i % 5]}."
                    for i in range(sentences))
