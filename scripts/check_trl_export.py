"""What trl's own trainers make of our rows: the tokens with loss, decoded. Run by check_trl_export.sh.

Our writer's trl rows (``trl messages``: of a method that verified every answer), and the alpaca and sharegpt rows of
the same examples, go into SFTTrainer, DPOTrainer and KTOTrainer with a random model of one layer and byte tokens under
a ChatML template; nothing is trained. Status 1 if of a trl export anything but the verified answers has loss.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from if_factory.exporting.formats import write_dataset
from if_factory.records import KTOExample, PreferenceExample, SFTExample, Turn

TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}{% generation %}"
            "{{ m['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
COMMON: dict[str, Any] = {"record_id": "r", "prompt": "Name a tree.", "system": "Be brief.",
                          "history": (Turn(role="user", content="Hello"), Turn(role="assistant", content="Hi"))}
EXAMPLES: dict[str, list[Any]] = {
    "sft": [SFTExample(response="Oak.", **COMMON)] * 4,
    "dpo": [PreferenceExample(chosen="Oak.", rejected="A rose.", violated=(0,), **COMMON)] * 4,
    "kto": [KTOExample(response="Oak.", label=True, **COMMON),
            KTOExample(response="A rose.", label=False, **COMMON)] * 2}


def make_model(folder: Path) -> tuple[Any, Any]:
    """A random Llama of one layer and a tokenizer of bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator([], trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|im_start|>", "<|im_end|>", "<pad>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>",  # noqa: S106
                                        pad_token="<pad>")  # noqa: S106
    tokenizer.chat_template = TEMPLATE
    config = LlamaConfig(vocab_size=300, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                         num_attention_heads=1, num_key_value_heads=1, max_position_embeddings=512)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return LlamaForCausalLM.from_pretrained(folder), tokenizer  # DPO and KTO load its reference from there


def with_loss(stage: str, file: Path, folder: Path, **keys: Any) -> list[tuple[str, str]]:
    """(text without loss, text with loss) of the first row's sequences, as the trainer's collator gives them."""
    import trl
    from datasets import load_dataset

    model, tokenizer = make_model(folder / "model")
    config, trainer = {"sft": (trl.SFTConfig, trl.SFTTrainer), "dpo": (trl.DPOConfig, trl.DPOTrainer),
                       "kto": (trl.KTOConfig, trl.KTOTrainer)}[stage]
    rows = load_dataset("json", data_files=str(file), split="train", cache_dir=str(folder / "cache"))
    made = trainer(model=model, args=config(output_dir=str(folder / "out"), report_to=[], use_cpu=True, bf16=False,
                                            per_device_train_batch_size=4, **keys),
                   train_dataset=rows, processing_class=tokenizer)
    batch = made.data_collator([made.train_dataset[i] for i in range(len(made.train_dataset))])
    return sequences(batch, tokenizer)


def sequences(batch: dict[str, Any], tokenizer: Any) -> list[tuple[str, str]]:
    """Per sequence of a batch its text without and with loss, whatever the trainer calls its columns."""
    found = []
    for name in [n for n in batch if n.endswith("input_ids")]:
        names = (name.replace("input_ids", "labels"), name.replace("input_ids", "completion_mask"), "completion_mask")
        marks = next((batch[n] for n in names if n in batch), None)
        for n, ids in enumerate(batch[name].tolist()):
            row = None if marks is None else marks[n].tolist()
            trained = [row is None or (row[i] not in (-100, 0) if "labels" not in batch else row[i] != -100)
                       for i in range(len(ids))]
            sides = ["", ""]
            for side in (0, 1):
                kept = [t for t, yes in zip(ids, trained, strict=True) if yes == bool(side)]
                sides[side] = tokenizer.decode(kept).replace("<pad>", "")
            found.append((sides[0], sides[1]))
    return list(dict.fromkeys(found))


def runs() -> list[tuple[str, str, dict[str, Any], set[str] | None]]:
    """(rows, stage, the trainer's keys, the texts that shall have loss; ``None``: only shown)."""
    answers = {"sft": {"Oak."}, "dpo": {"Oak.", "A rose."}, "kto": {"Oak.", "A rose."}}
    found: list[tuple[str, str, dict[str, Any], set[str] | None]] = [
        (form, stage, {}, answers[stage] if form == "trl" else None)
        for form in ("trl", "alpaca", "sharegpt") for stage in EXAMPLES]
    return [*found, ("trl messages", "sft", {}, None),
            ("trl messages", "sft", {"assistant_only_loss": True}, {"HiOak."})]


def attempt(what: Callable[[], list[tuple[str, str]]]) -> list[tuple[str, str]] | str:
    try:
        return what()
    except Exception as e:  # what trl raises is what is asked
        return f"{type(e).__name__}: {str(e).splitlines()[0][:200] if str(e) else ''}"


def main() -> int:
    import datasets
    import torch
    import transformers
    import trl

    print(f"trl {trl.__version__}, transformers {transformers.__version__}, datasets {datasets.__version__}, "
          f"torch {torch.__version__}")
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        for n, (form, stage, keys, expected) in enumerate(runs()):
            folder = Path(name) / str(n)
            folder.mkdir()
            written = write_dataset("d", EXAMPLES[stage], folder, form.split()[0],  # type: ignore[arg-type]
                                    every_answer=form == "trl messages")
            seen = attempt(lambda s=stage, f=folder, p=written.path, k=keys:  # type: ignore[misc]
                           with_loss(s, p, f, **k))
            print(f"\n{stage} on {form} rows {keys or ''}", flush=True)
            for line in [seen] if isinstance(seen, str) else seen:
                print("  ", line if isinstance(line, str) else json.dumps(
                    {"without loss": line[0], "with loss": line[1]}))
            if expected is not None:
                bad += isinstance(seen, str) or {
                    "".join(trained.replace("<|im_end|>", "").split("\n")) for _, trained in seen} != expected
    print(f"\n{bad} of the trl exports fail or train other tokens than those of verified answers" if bad else
          "\nof the trl exports the verified answers alone have loss")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
