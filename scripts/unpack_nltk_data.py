"""Takes NLTK's sentence model and stop words out of the wheel of llama-index-core, which carries them.

    python scripts/unpack_nltk_data.py FOLDER      (reads FOLDER/wheels, writes FOLDER/nltk_data)
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path


def main() -> None:
    work = Path(sys.argv[1])
    unpacked = 0
    with zipfile.ZipFile(next((work / "wheels").glob("llama_index_core-*.whl"))) as wheel:
        for name in wheel.namelist():
            _, found, rest = name.partition("/nltk_cache/")
            if found and rest.startswith(("tokenizers/punkt_tab/", "corpora/stopwords/")) and not name.endswith("/"):
                target = work / "nltk_data" / rest
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(wheel.read(name))
                unpacked += 1
    if not unpacked:
        sys.exit("this wheel of llama-index-core carries no NLTK data\n  what to do: download an older one, "
                 "0.14 for example")


if __name__ == "__main__":
    main()
