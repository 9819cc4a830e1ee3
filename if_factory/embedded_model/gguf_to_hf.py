"""A Hugging Face directory from a GGUF file, so that the model we serve is the model we train.

transformers reads the weights. Everything else is taken from the GGUF's own metadata, because a wrong stop
token, template, RoPE base or digit split makes every later measurement noise. Written so that transformers
4.5x and 5.x read the same directory.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from if_factory.errors import UserError
from if_factory.files import dump_json

# llama.cpp's names of the pre-tokenizers that split digits one by one, then as GPT-2 does.
_DIGITS_THEN_GPT2 = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"})
_CONTROL = 3  # gguf.TokenType.CONTROL


def convert(gguf: Path, out: Path) -> Path:
    """Write ``out`` (float32 safetensors, config, tokenizer, chat template) and return it.

    An ``out`` that is there already is left as it is; a part-written one never appears.

    Args:
        gguf: a chat model of the llama architecture with a byte-level BPE tokenizer, e.g. the embedded one.

    Raises:
        UserError: not a readable GGUF, an architecture or tokenizer this does not convert, no chat
            template, or the packages of the ``local`` extra are missing.
    """
    if (out / "config.json").is_file():
        return out
    about = metadata(gguf)
    _refuse_unknown(gguf, about)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        _write_weights(gguf, folder)
        _write_config(folder, about)
        _write_tokenizer(folder, about)
        folder.chmod(0o755)
        with contextlib.suppress(OSError):  # another process was first, with the same content
            folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out


def metadata(gguf: Path) -> dict[str, Any]:
    """The file's key-value pairs, ``tokenizer.chat_template`` among them."""
    try:
        from gguf import GGUFReader
    except ImportError:
        raise UserError("reading a GGUF file needs the `gguf` package", where=str(gguf),
                        fix='pip install "if-factory[local]"') from None
    try:
        return {key: field.contents() for key, field in GGUFReader(gguf).fields.items()}
    except (OSError, ValueError, IndexError) as e:
        raise UserError(f"not a readable GGUF file: {e}", where=str(gguf),
                        fix="check the path, and that the download is complete") from None


def _refuse_unknown(gguf: Path, about: dict[str, Any]) -> None:
    kind = {key: about.get(key) for key in ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre")}
    if kind["general.architecture"] != "llama" or kind["tokenizer.ggml.model"] != "gpt2" \
            or kind["tokenizer.ggml.pre"] not in _DIGITS_THEN_GPT2:
        found = ", ".join(f"{key}={value}" for key, value in kind.items())
        raise UserError(f"this kind of model is not converted: {found}", where=str(gguf),
                        fix="train from the model's original Hugging Face directory instead")
    if not about.get("tokenizer.chat_template"):
        raise UserError("it has no chat template, so it is not a chat model", where=str(gguf),
                        fix="use an instruction-tuned model")


def _write_weights(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    # float32: LLaMA-Factory computes in the stored type, and most CPUs have no bfloat16 arithmetic.
    model = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    model.save_pretrained(folder)


def _write_config(folder: Path, about: dict[str, Any]) -> None:
    ids = {f"{name}_token_id": about[key] for name, key in
           (("bos", "tokenizer.ggml.bos_token_id"), ("eos", "tokenizer.ggml.eos_token_id")) if key in about}
    ids["pad_token_id"] = about.get("tokenizer.ggml.padding_token_id", ids["eos_token_id"])
    theta = float(about["llama.rope.freq_base"])
    config = json.loads((folder / "config.json").read_text())
    config |= ids | {
        "max_position_embeddings": about["llama.context_length"],
        "rms_norm_eps": float(f"{about['llama.attention.layer_norm_rms_epsilon']:.6g}"),  # float32 1e-5 as 1e-05
        "vocab_size": len(about["tokenizer.ggml.tokens"]),
        # transformers 4 reads rope_theta and torch_dtype, 5 the other two.
        "rope_theta": theta, "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "torch_dtype": "float32", "dtype": "float32",
    }
    (folder / "config.json").write_text(dump_json(config, indent=2) + "\n")
    (folder / "generation_config.json").write_text(dump_json(ids, indent=2) + "\n")


def _write_tokenizer(folder: Path, about: dict[str, Any]) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens: list[str] = about["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ", 1)) for pair in about["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = about["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.save(str(folder / "tokenizer.json"))

    named = {}
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        if (i := about.get(f"tokenizer.ggml.{key}_token_id")) is not None:
            named[f"{name}_token"] = tokens[i]
    named.setdefault("pad_token", named["eos_token"])
    settings = named | {
        # Not the model's own class: transformers 5 would build GPT-2's splitting, without single digits.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": about["tokenizer.chat_template"],
        "additional_special_tokens": control,
        "model_max_length": about["llama.context_length"],
        "add_bos_token": bool(about.get("tokenizer.ggml.add_bos_token", False)),
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],  # transformers 4 would add token_type_ids
        "padding_side": "left",
    }
    (folder / "tokenizer_config.json").write_text(dump_json(settings, indent=2) + "\n")
