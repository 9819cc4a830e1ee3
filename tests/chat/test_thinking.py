"""Reasoning is cut from answers in every spelling, and never from prose that mentions it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory.chat.base import CUT_IN_THINKING, ONLY_THINKING, Completion
from if_factory.chat.replies import without_reasoning
from if_factory.chat.thinking import answer_text, strip_thinking

THOUGHT = "They want a tool. So a spade."
ANSWER = "A spade is the usual tool."


@pytest.mark.parametrize(
    "text",
    [
        *(
            f"<{name}>{THOUGHT}</{name}>\n\n{ANSWER}"
            for name in (
                "think",
                "THINK",
                "thinking",
                "thought",
                "reasoning",
                "seed:think",
                "think ",
                "longcat_think",
            )
        ),
        f"[THINK]{THOUGHT}[/THINK]{ANSWER}",
        f"◁think▷{THOUGHT}◁/think▷{ANSWER}",
        f"<|begin_of_thought|>{THOUGHT}<|end_of_thought|><|begin_of_solution|>{ANSWER}<|end_of_solution|>",
        f"<|START_THINKING|>{THOUGHT}<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
        f"<|channel>thought\n{THOUGHT}<channel|>{ANSWER}",
        f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>",
        f"{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}",
        f"analysis{THOUGHT}assistantfinal{ANSWER}",
        f"{THOUGHT}</think>\n\n{ANSWER}",
        f"{THOUGHT}\n</think>\n{ANSWER}",
        f"<think>{THOUGHT}</think><think>Again.</think>{ANSWER}",
        f"<think>The tag `</think>` closes it.</think>{ANSWER}",
        f"<|im_start|>assistant\n<think>{THOUGHT}</think>{ANSWER}<|im_end|>",
    ],
)
def test_reasoning_is_cut_in_every_spelling(text: str) -> None:
    assert answer_text(text) == ANSWER


@pytest.mark.parametrize(
    "text",
    [
        "The tag `<think>` opens it and everything after the closing tag is the answer.",
        "Match from `<think>` to `</think>` and replace that with nothing. Then strip the white space.",
        'Models write "<think>" first.',
        "<think> and </think> are the two tags.",
        "<think> is the tag.",
        "Everything after the closing tag </think> is the answer.",
        "It ends with </think>. Then comes the answer.",
        "```xml\n<think>\nyour reasoning\n</think>\n```\nThat is the form.",
        "Use this form:\n<think>your reasoning</think>\n<answer>your answer</answer>",
        "Harmony writes `<|channel|>analysis<|message|>` first.",
        "analysis of the data is the next step",
        "The token <|im_end|> ends a turn.",
        "`</s>` ends a text.",
        "<s>old price</s>\nnew price",
        "I think > you thought",
        "An answer without any of this.",
        '{"reason": "It says: I win. </think>{}", "winner": "B"}',
    ],
)
def test_prose_that_mentions_it_is_left_alone(text: str) -> None:
    assert answer_text(text) == text


@pytest.mark.parametrize(
    "text",
    [
        f"{ANSWER}<|eot_id|>",
        f"{ANSWER}</s>",
        f"{ANSWER}<end_of_turn>\n",
        f"<s>{ANSWER}</s>",
        f"<|begin_of_text|>{ANSWER}",
        f"{ANSWER}<|im_end|>\n<|im_start|>user\nThanks!<|im_end|>\n<|im_start|>assistant\nYou are welcome.",
    ],
)
def test_control_tokens_and_what_follows_them_are_cut(text: str) -> None:
    assert answer_text(text) == ANSWER


@pytest.mark.parametrize(
    "thought",
    [f"<think>{THOUGHT}", f"[THINK]{THOUGHT}", f"<|channel|>analysis<|message|>{THOUGHT}", f"analysis{THOUGHT}"],
)
def test_reasoning_that_eats_the_token_limit_is_a_finish_reason_of_its_own(thought: str) -> None:
    cut = without_reasoning(Completion(thought, "length", 5, 9))
    assert cut == Completion("", CUT_IN_THINKING, 5, 9)
    assert cut.cut
    assert without_reasoning(Completion(thought, "stop")).finish_reason == ONLY_THINKING


pieces = st.lists(
    st.one_of(
        st.text(max_size=15),
        st.sampled_from(
            [
                "<think>",
                "</think>",
                "`",
                "```\n",
                "\n",
                '"',
                "[THINK]",
                "[/THINK]",
                "<|channel|>final<|message|>",
                "<|im_end|>",
                "</s>",
                "<s>",
                "analysis",
                "assistantfinal",
                " a b c d e f g h i ",
            ]
        ),
    ),
    max_size=25,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(pieces)
def test_the_answer_is_made_of_the_text_and_never_longer(text: str) -> None:
    assert len(answer_text(text)) <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        "<think>" * 10_000 + "</think>" + "<think>" * 10_000,
        "a</think>" * 10_000,
        "`<think>" * 10_000,
        "<think></think>" * 10_000,
        "<s>" * 30_000,
        "x\n<think>" * 10_000,
        "<|im_end|> x" * 10_000,
        " " * 50_000 + "<think>",
    ],
)
def test_hostile_nesting_takes_no_quadratic_time(text: str) -> None:
    began = time.process_time()
    strip_thinking(text)
    answer_text(text)
    assert time.process_time() - began < 20  # seconds of CPU; quadratic would be minutes
