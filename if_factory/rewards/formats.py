"""Prompt datasets and reward files, as each trainer reads them.

Sources, read and in part run: trl 0.24 and 1.16 (``grpo_trainer``), verl 0.9.1 (``experimental/reward_loop``), EasyR1
b44b311 (``workers/reward/function.py``), ms-swift 4.6.0 (``rewards/orm.py``, ``rl_core/grpo_algorithm.py``), OpenRLHF
0.11.2 (``utils/agent.py``), open-instruct e6c3044 (``ground_truth_utils.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from if_factory.constraints.base import get, is_known
from if_factory.rewards.prompts import PromptExample

RlFormat = Literal["trl", "verl", "easyr1", "ms-swift", "openrlhf", "open-instruct"]
FORMATS: tuple[RlFormat, ...] = get_args(RlFormat)
ENTRY_COLUMNS = {"prompt": "instruction", "query": "input", "system": "system", "history": "history"}


@dataclass(frozen=True)
class TrainerFormat:
    """How one trainer reads prompts.

    Attributes:
        row: an example and its number to a row; a string says why this trainer cannot have it.
        reward: the text of the reward file (``reward_file`` fills it in); empty where the trainer brings its own
            verifier.
        use: the trainer's options that name the two files; ``{data}`` and ``{reward}`` are their paths.
    """

    row: Callable[[PromptExample, int, str], dict[str, Any] | str]
    reward: str
    use: str


def rows_of(fmt: RlFormat, examples: Sequence[PromptExample], source: str) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The rows in the order given, and how many prompts the format cannot hold, by reason.

    Args:
        source: the value of ``data_source``.
    """
    rows: list[dict[str, Any]] = []
    refused: Counter[str] = Counter()
    for example in examples:
        row = TRAINERS[fmt].row(example, len(rows), source)
        if isinstance(row, str):
            refused[row] += 1
        else:
            rows.append(row)
    return rows, refused


def reward_file(fmt: RlFormat, plugins: Sequence[Path]) -> str:
    """The text of a trainer's reward file; empty where the trainer brings its own verifier.

    Args:
        plugins: the run's files of constraint types. Their paths are written absolute: trainers start the file, or a
            copy of it, from other folders, and a type that is not registered there has no verdict.
    """
    listed = f",\n    plugins={[str(p.absolute()) for p in plugins]!r}" if plugins else ""
    return TRAINERS[fmt].reward.format(plugins=listed)


def llamafactory_rows(examples: Sequence[PromptExample]) -> list[dict[str, Any]]:
    """Alpaca rows without an answer, with the column ``ground_truth``: what ``stage: ppo`` and ``grpo`` read."""
    return [{"instruction": e.prompt, "input": "", "system": e.system,
             "history": [[q.content, a.content] for q, a in zip(e.history[::2], e.history[1::2], strict=True)],
             "ground_truth": e.ground_truth, "difficulty": e.difficulty, "pass_rate": e.pass_rate} for e in examples]


def _info(e: PromptExample, index: int) -> dict[str, Any]:
    return {"index": index, "record_id": e.record_id, "difficulty": e.difficulty, "constraints": len(e.constraints),
            "undecided": e.undecided, "pass_rate": e.pass_rate, "measured": e.measured}


def _trl(e: PromptExample, index: int, source: str) -> dict[str, Any]:
    return {"prompt": e.messages(), "ground_truth": e.ground_truth, "data_source": source,
            "extra_info": _info(e, index)}


def _verl(e: PromptExample, index: int, source: str) -> dict[str, Any]:
    return {"data_source": source, "prompt": e.messages(), "ability": "instruction_following",
            "reward_model": {"style": "rule", "ground_truth": e.ground_truth}, "extra_info": _info(e, index)}


def _easyr1(e: PromptExample, index: int, source: str) -> dict[str, Any] | str:
    if e.history or e.system:
        return "more_than_one_turn"  # its prompt is one plain string
    return {"prompt": e.prompt, "ground_truth": e.ground_truth, "data_source": source, "extra_info": _info(e, index)}


def _swift(e: PromptExample, index: int, source: str) -> dict[str, Any]:
    return {"messages": e.messages(), "ground_truth": e.ground_truth, "data_source": source,
            "extra_info": _info(e, index)}


def _openrlhf(e: PromptExample, index: int, source: str) -> dict[str, Any]:
    return {"input": e.messages(), "label": e.ground_truth, "datasource": source, "extra_info": _info(e, index)}


def _open_instruct(e: PromptExample, index: int, source: str) -> dict[str, Any] | str:
    """Its own verifier decides, so only types of its registry go there, as the Python literal that it parses."""
    if not all(_in_open_instruct(c.type) for c in e.constraints):
        return "type_unknown_to_open_instruct"
    truth = [{"instruction_id": [c.type for c in e.constraints], "kwargs": [c.kwargs or None for c in e.constraints]}]
    return {"messages": e.messages(), "ground_truth": repr(truth), "dataset": "ifeval", "extra_info": _info(e, index)}


def _in_open_instruct(type_id: str) -> bool:
    """IFEval's own types and IFEvalG's, which is its registry; ours are in folders of those names."""
    folder = type(get(type_id)).__module__.removeprefix("if_factory.constraints.types.") if is_known(type_id) else ""
    return folder.startswith(("ifeval.", "ifevalg."))


_HEAD = '"""Verified rewards by if_factory; reward_of has more options (docs/rewards.md)."""\n\n'

TRAINERS: dict[RlFormat, TrainerFormat] = {
    "trl": TrainerFormat(_trl, _HEAD + """from if_factory.rewards import reward_of

reward = reward_of(how="fraction", undecided="group_mean"{plugins})
""", "GRPOTrainer(reward_funcs=reward, train_dataset=load_dataset('json', data_files='{data}', split='train'), ...), "
     "with `reward` of {reward}"),
    "verl": TrainerFormat(_verl, _HEAD + """from if_factory.rewards.trainers import verl

compute_score = verl(how="fraction"{plugins})
""", "data.train_files={data} reward.custom_reward_function.path={reward} "
     "reward.custom_reward_function.name=compute_score"),
    "easyr1": TrainerFormat(_easyr1, _HEAD + """from if_factory.rewards.trainers import easyr1

REWARD_NAME = "if_factory"
REWARD_TYPE = "batch"
compute_score = easyr1(how="fraction"{plugins})
""", "data.train_files={data} data.prompt_key=prompt data.answer_key=ground_truth "
     "worker.reward.reward_function={reward}:compute_score"),
    "ms-swift": TrainerFormat(_swift, _HEAD + """from swift.rewards import ORM, orms

from if_factory.rewards.trainers import ms_swift

orms["if_factory"] = ms_swift(ORM, how="fraction"{plugins})
""", "--dataset {data} --external_plugins {reward} --reward_funcs if_factory"),
    "openrlhf": TrainerFormat(_openrlhf, _HEAD + """from if_factory.rewards.trainers import openrlhf

reward_func = openrlhf(how="fraction"{plugins})
""", "--data.prompt_dataset {data} --data.input_key input --data.label_key label --data.apply_chat_template "
     "--reward.remote_url {reward}"),
    "open-instruct": TrainerFormat(_open_instruct, "", "--dataset_mixer_list {data} 1.0 (open-instruct's own verifier "
                                   "`ifeval` decides)"),
}
