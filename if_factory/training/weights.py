"""Saved weights: that they are numbers, and that training changed them.

LLaMA-Factory ends with status 0 although every weight is NaN, and although nothing was learnt. The files are read
one tensor at a time, so a model of any size takes little memory.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ONE_FILE = ("adapter_model.safetensors", "adapter_model.bin", "model.safetensors", "model.safetensors.index.json",
             "pytorch_model.bin", "pytorch_model.bin.index.json")
# bits of the exponent; a number of which all are set is infinite or no number
_EXPONENT = {"F64": ("<u8", 0x7FF0 << 48), "F32": ("<u4", 0x7F800000), "BF16": ("<u2", 0x7F80),
             "F16": ("<u2", 0x7C00)}


def weights(folder: Path) -> Path | None:
    """The file that shows that a training ended: the adapter's or the model's weights, or their index."""
    return next((folder / name for name in _ONE_FILE if (folder / name).is_file()), None)


def weight_files(folder: Path) -> list[Path]:
    """All files with weights: of an adapter, a whole model, or a model in parts."""
    first = weights(folder)
    if first is None:
        return []
    if first.name.endswith(".index.json"):
        parts = json.loads(first.read_bytes())["weight_map"].values()
        return [folder / name for name in sorted(set(parts))]
    return [first]


def fault_of(folder: Path, start: Path | None) -> str | None:
    """What is wrong with the weights saved in ``folder``, or ``None``.

    ``start`` is the adapter or model that training began with; ``None``: a new adapter, whose B matrices begin as
    zeros. Files other than safetensors are not looked at, nor is anything without numpy.

    Raises:
        OSError: a file cannot be read.
    """
    try:
        import numpy  # noqa: F401
    except ImportError:
        return None
    files = [f for f in weight_files(folder) if f.suffix == ".safetensors"]
    before = {name: at for f in (weight_files(start) if start else []) if f.suffix == ".safetensors"
              for name, at in _places(f)}
    seen = comparable = bad = 0
    changed = False
    for file in files:
        for name, place in _places(file):
            seen += 1
            raw = _read(place)
            bad += not _finite(raw, place[1])
            if changed:
                continue
            if start is not None:
                if name in before and before[name][1] == place[1]:
                    comparable += 1
                    changed = raw.tobytes() != _read(before[name]).tobytes()
            elif "lora_B" in name:
                comparable += 1
                changed = bool(raw.any())
    if bad:
        return f"{bad} of {seen} tensors in {folder} hold numbers that are not finite"
    if comparable and not changed:
        return f"the weights in {folder} are those that training began with"
    return None


def _places(file: Path) -> Iterator[tuple[str, tuple[Path, str, int, int]]]:
    """(tensor, (file, type, offset, bytes)) by the header of a safetensors file."""
    with file.open("rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        header: dict[str, Any] = json.loads(f.read(size))
    for name, about in header.items():
        if name != "__metadata__":
            begin, end = about["data_offsets"]
            yield name, (file, about["dtype"], 8 + size + begin, end - begin)


def _read(place: tuple[Path, str, int, int]) -> Any:
    import numpy as np

    file, dtype, offset, size = place
    with file.open("rb") as f:
        f.seek(offset)
        return np.frombuffer(f.read(size), dtype=_EXPONENT.get(dtype, ("<u1", 0))[0])


def _finite(raw: Any, dtype: str) -> bool:
    if dtype not in _EXPONENT:
        return True
    bits = raw.dtype.type(_EXPONENT[dtype][1])
    return not bool(((raw & bits) == bits).any())
