"""I-ORPO without touching LLaMA-Factory: tokenised triples that its stock ORPO trains.

LLaMA-Factory takes a folder named by ``tokenized_path`` as it is, without converter, template or processor. With
(x_w, y) as the chosen and (x_l, y) as the rejected sequence, ``stage: dpo, pref_loss: orpo`` computes the I-ORPO
loss. It costs a folder per tokenizer and template, stock's memory for whole logits, and stock's numerics
(``log1p(-exp)`` is -inf where a response is certain). It cannot be broken by changes in LLaMA-Factory's code, and
it is what the stage is tested against.

Source: llamafactory 0.9.5 ``data/loader.py`` ``get_dataset``, ``train/dpo/trainer.py`` ``odds_ratio_loss``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from if_factory.errors import UserError
from if_factory.files import read_text, write_atomic
from if_factory.iorpo.arguments import STAGE, split

# Read by the run that follows, not by tokenising: they want a GPU, a launcher or an empty output folder.
_NOT_YET = {"use_cpu": True, "bf16": False, "fp16": False, "pure_bf16": False, "deepspeed": None, "fsdp": None,
            "streaming": False, "resume_from_checkpoint": None, "overwrite_output_dir": True}


def tokenize(path: Path, out: Path) -> Path:
    """Write the triples of an I-ORPO YAML to ``out``/tokenized and return ``out``/<name>.yaml, which trains them.

    Both sets, training and evaluation (``eval_dataset`` or ``val_size``), are written; the counts of what was
    dropped are shown as in a run of the stage.

    Raises:
        UserError: not an I-ORPO YAML, ``iorpo_nll_on`` that stock cannot compute, ``out`` in use, no triple left.
    """
    from omegaconf import OmegaConf  # as LLaMA-Factory reads it: 5e-6 is a number

    config = OmegaConf.to_container(OmegaConf.create(read_text(path)))
    if not isinstance(config, dict) or config.get("stage") != STAGE:
        raise UserError("expected a LLaMA-Factory YAML with `stage: iorpo`", where=str(path))
    stock, arguments = split(config)
    assert isinstance(stock, dict)
    if arguments.nll_on != "response":
        raise UserError("stock LLaMA-Factory has the likelihood of the response only", where=f"{path}: field "
                        "'iorpo_nll_on'", fix="set it to response, or train with `if-factory train`")
    folder = out / "tokenized"
    if folder.exists():
        raise UserError("already there", where=str(folder), fix="name another folder, or delete this one")
    _write(config, folder)
    done = out / f"{path.stem}.yaml"
    head = (f"# Stock LLaMA-Factory trains I-ORPO here: {folder} holds (x_w, y) as chosen, (x_l, y) as rejected.\n"
            f"# `dataset` must be named but is not read.\n#\n#   llamafactory-cli train {done}\n\n")
    stock["tokenized_path"] = str(folder)
    write_atomic(done, head + yaml.safe_dump(stock, sort_keys=False, width=1000))
    return done


def _write(config: dict[str, Any], folder: Path) -> None:
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.model import load_tokenizer
    from llamafactory.train import tuner

    from if_factory.iorpo import data
    from if_factory.iorpo.register import add_stage

    add_stage(tuner)
    now = {key: value for key, value in _NOT_YET.items() if key in config}
    model_args, data_args, training_args, _, _ = tuner.get_train_args(
        {**config, **now, "use_cpu": True, "overwrite_output_dir": True, "tokenized_path": str(folder)})
    tokenizer_module = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(tokenizer_module["tokenizer"], data_args)
    with data.triples():
        get_dataset(template, model_args, data_args, training_args, stage=STAGE, **tokenizer_module)
