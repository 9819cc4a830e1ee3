"""Writes langdetect's language profiles as the one file that ``if_factory/constraints/text/langid.py`` reads.

    python scripts/pack_language_profiles.py [file to write]

langdetect keeps a JSON file for each of its 55 languages, of which a process would parse 2 MB before the first answer.
Here the same counts stand once for each n-gram, in blocks by the n-gram's highest character, of which only those that
a text needs are looked at. A test compares the file with the profiles of the installed langdetect.

The profiles are langdetect 1.0.9's, Copyright (c) 2010-2014 Cybozu Labs, Inc. and Michal Mimino Danilak, under the
Apache License 2.0, as is this repository (LICENSE, NOTICE).

Form: a line of JSON (``names`` of the languages in order, ``n_words`` of each: how many 1-, 2- and 3-grams were
counted; ``blocks``: characters divided by 128 -> index of the first n-gram, number of n-grams, index of the
first byte of their text, number of bytes; ``sizes`` in bytes of the four parts), padded with blanks to a multiple of 4
bytes, then four parts: for each n-gram where its counts begin, and one number for their end (4 bytes each,
little-endian, as all numbers); the counts (4 bytes each); their languages (1 byte each, an index into ``names``);
the n-grams (UTF-8, divided by line feeds).
"""

from __future__ import annotations

import json
import sys
from array import array
from pathlib import Path

from langdetect.detector_factory import PROFILES_DIRECTORY

TARGET = Path(__file__).parents[1] / "if_factory" / "constraints" / "text" / "langid.bin"


def packed() -> bytes:
    """The file's bytes."""
    files = sorted(p for p in Path(PROFILES_DIRECTORY).iterdir() if p.is_file() and not p.name.startswith("."))
    profiles = [json.loads(p.read_bytes()) for p in files]
    grams = sorted({gram for profile in profiles for gram in profile["freq"]}, key=lambda gram: (_block(gram), gram))
    starts, counts, languages = array("I"), array("I"), array("B")
    if array("I").itemsize != 4:
        raise SystemExit("this Python's unsigned int has not 4 bytes")
    blocks: dict[int, list[str]] = {}
    for gram in grams:
        if "\n" in gram or not 1 <= len(gram) <= 3:
            raise SystemExit(f"{gram!r} has no place in this form")
        blocks.setdefault(_block(gram), []).append(gram)
        starts.append(len(counts))
        for place, profile in enumerate(profiles):
            if gram in profile["freq"]:
                counts.append(profile["freq"][gram])
                languages.append(place)
    starts.append(len(counts))
    index, first, texts = {}, 0, b""
    for block, of in blocks.items():
        text = "\n".join(of).encode()
        index[block] = [first, len(of), len(texts), len(text)]
        first, texts = first + len(of), texts + text
    if sys.byteorder == "big":
        starts.byteswap()
        counts.byteswap()
    parts = [starts.tobytes(), counts.tobytes(), languages.tobytes(), texts]
    head = json.dumps({"names": [p.name for p in files], "n_words": [p["n_words"] for p in profiles],
                       "blocks": index, "sizes": list(map(len, parts))}, separators=(",", ":"))
    return b"".join([(head + " " * (-(len(head) + 1) % 4) + "\n").encode(), *parts])


def _block(gram: str) -> int:
    return ord(max(gram)) >> 7


if __name__ == "__main__":
    target = Path(sys.argv[1]) if sys.argv[1:] else TARGET
    target.write_bytes(packed())
    print(f"{target}: {target.stat().st_size} bytes")
