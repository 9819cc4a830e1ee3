"""The embedded weights in the encoding that a CPU decodes fastest in batches.

The registry's file is Q4_1, for which llama.cpp has no batched kernel: on two AVX-512 cores, 32 requests at once
ran at 65 tokens/s, the same values stored as Q8_0 at 103 (``benchmarks/serving.py``). Q8_0 keeps a Q4_1 value to
within half a step of 1/127 of its block's largest, so the model is the same one.
"""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock

from if_factory.embedded_model.fetch import FILE_NAME, cache_folder, fetch_embedded
from if_factory.errors import UserError


def embedded_for_serving(cache_dir: Path | None = None) -> Path:
    """The embedded model as Q8_0, made once from the fetched file and kept in the cache folder (145 MB).

    Raises:
        UserError: as ``fetch_embedded``, or the cache folder cannot be written.
    """
    folder = cache_dir or cache_folder()
    target = folder / FILE_NAME.replace("Q4_1", "Q8_0")
    if target.is_file():
        return target
    source = fetch_embedded(cache_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{target.name}.lock"):
            if not target.is_file():
                part = target.with_suffix(f".{os.getpid()}.part")
                to_q8_0(source, part)
                os.replace(part, target)
    except OSError as e:
        raise UserError(f"cannot write: {e.strerror or e}", where=str(folder),
                        fix="free about 300 MB or set IF_FACTORY_CACHE to another folder") from None
    return target


def to_q8_0(source: Path, target: Path) -> None:
    """Copy a GGUF with its metadata, every quantised tensor stored as Q8_0; float tensors stay as they are."""
    from gguf import GGMLQuantizationType as Type
    from gguf import GGUFReader, GGUFValueType, GGUFWriter
    from gguf.quants import dequantize, quantize

    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue  # written by the writer itself, or no longer true
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        if tensor.tensor_type in (Type.F32, Type.F16):
            writer.add_tensor(tensor.name, tensor.data)
        else:
            values = dequantize(tensor.data, tensor.tensor_type)
            writer.add_tensor(tensor.name, quantize(values, Type.Q8_0), raw_dtype=Type.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
