"""The serving copy holds the same model: same metadata, same values within Q8_0's step."""

import pytest

gguf = pytest.importorskip("gguf", reason="needs the embedded extra")


@pytest.mark.e2e
def test_the_serving_copy_has_the_same_metadata_and_nearly_the_same_values(tmp_path):
    import numpy as np
    from gguf.quants import dequantize

    from if_factory.embedded_model.fetch import fetch_embedded
    from if_factory.embedded_model.requantize import to_q8_0

    to_q8_0(fetch_embedded(), tmp_path / "copy.gguf")
    old, new = gguf.GGUFReader(fetch_embedded()), gguf.GGUFReader(tmp_path / "copy.gguf")
    # tensor offsets and counts are the container's own; the file type is what changed
    own = {k for k in old.fields if k.startswith("GGUF.")} | {"general.file_type"}
    assert {k: f.contents() for k, f in old.fields.items() if k not in own} == \
           {k: f.contents() for k, f in new.fields.items() if k not in own}
    assert [t.name for t in old.tensors] == [t.name for t in new.tensors]
    for a, b in zip(old.tensors[:40], new.tensors[:40], strict=True):
        x, y = dequantize(a.data, a.tensor_type), dequantize(b.data, b.tensor_type)
        assert x.shape == y.shape
        assert np.abs(x - y).max() <= np.abs(x).max() / 127
