from __future__ import annotations

import json
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, RootModel

from if_factory.chat.base import Completion
from if_factory.chat.parse import (
    Failure,
    ask_parsed,
    echoes,
    parse_json,
    parse_score,
    parse_tagged,
    repeats_wording,
)
from if_factory.chat.thinking import strip_thinking


class Reply(BaseModel):
    name: str
    count: int
    kind: Literal["a", "b"] = "a"


class Names(RootModel[list[str]]):
    pass


GOOD = '{"name": "x", "count": 3}'


@pytest.mark.parametrize("text", [
    GOOD, f"  {GOOD}\n", f"```json\n{GOOD}\n```", f"Sure! Here it is:\n```\n{GOOD}\n```\nHope it helps.",
    f"The answer [1] is {GOOD}, as you asked.", f"<think>{{bad}}</think>{GOOD}", '{"name": "x", "count": "3"}',
    "{'name': 'x', 'count': 3,}", '{"name": "x", "count": 3', '{name: "x", count: 3} // done',
    'first {"wrong": 1} and then\n```json\n{"name": "x", "count": 3}\n```'])
def test_json_is_found_the_way_models_write_it(text: str) -> None:
    assert parse_json(text, Reply) == Reply(name="x", count=3)


@pytest.mark.parametrize("text", ['["a", "b"]', 'Of course {gladly}: ["a", "b"]', "- list:\n```\n['a', 'b']\n```"])
def test_a_list_is_found_too(text: str) -> None:
    assert parse_json(text, Names) == Names(["a", "b"])


@pytest.mark.parametrize(("text", "reason", "detail"), [
    ("", "no_json", ""), ("I cannot do that.", "no_json", ""),
    ('{"name": "x"}', "wrong_json", "count: Field required"), ('{"name": 1, "count": 1}', "wrong_json", "name: "),
    ('{"name": "x", "count": 1, "kind": "c"}', "wrong_json", "kind: "), ("[1, 2]", "wrong_json", "")])
def test_what_does_not_fit_gives_a_reason(text: str, reason: str, detail: str) -> None:
    got = parse_json(text, Reply)
    assert isinstance(got, Failure)
    assert got.reason == reason
    assert got.detail.startswith(detail)


@pytest.mark.parametrize(("text", "expected"), [
    ("<a>x</a>", "x"), ("Well:\n<A>\n two\nlines \n</A> bye", "two\nlines"), ("<a>1</a><a>2</a>", "1"),
    ("<a>x", Failure("unclosed_tag", "<a> is never closed")), ("<a> </a>", Failure("empty_tag", "nothing in <a>")),
    ("x</a>", Failure("no_tag", "no <a>")), ("<think><a>1</a></think><a>2</a>", "2")])
def test_text_between_tags(text: str, expected: str | Failure) -> None:
    assert parse_tagged(text, "a") == expected


@pytest.mark.parametrize(("text", "expected"), [
    ("7", 7.0), ("Score: 7", 7.0), ("**Score**: 7/10.", 7.0), ("[[ 6.5 ]]", 6.5), ("<score>8</score>", 8.0),
    ('{"score": 4}', 4.0), ("I give it 9 out of 10", 9.0), ("The rating is 3, not more.", 3.0),
    ("Of 3 points I checked 2.\nScore: 5\n...\nFinal score: 6", 6.0), ("10/10", 10.0), ("It is 0.", 0.0),
    ("7 and again 7", 7.0), ("<think>Score: 1</think>Score: 2", 2.0)])
def test_a_score_is_found_the_way_judges_write_it(text: str, expected: float) -> None:
    assert parse_score(text, 0, 10) == expected


@pytest.mark.parametrize(("text", "reason"), [
    ("", "no_score"), ("good", "no_score"), ("3 of the 5 points hold", "ambiguous_score"),
    ("Score: 11", "score_out_of_range"), ("Score: -1", "score_out_of_range"), ("Score: 4/5", "other_scale"),
    ("9" * 500, "score_out_of_range"), ("gpt4", "no_score")])
def test_an_unclear_score_gives_a_reason(text: str, reason: str) -> None:
    got = parse_score(text, 0, 10)
    assert isinstance(got, Failure)
    assert got.reason == reason


@pytest.mark.parametrize(("text", "expected"), [
    ("plain < think", "plain < think"), ("<think>a</think>b", "b"), ("a</think>\n\nb", "b"), ("<think>a", ""),
    ("<think>a</think>b<think>c</think>d", "bd"), ("<think>a<think>b</think>c</think>d", "d"),
    ("<think></think>", ""), ("b\n<think>one two three four five six seven eight</think>c", "b\nc")])
def test_reasoning_is_cut_however_it_is_marked(text: str, expected: str) -> None:
    assert strip_thinking(text) == expected


pieces = st.lists(st.one_of(st.text(max_size=20), st.sampled_from(
    ["{", "}", "[", "]", '"', "```", "```json\n", "<think>", "</think>", "<a>", "</a>", "score: ", "7", "/10", "-",
     '{"name":', "[[", "]]", "\\", ",", ":", "\n", "null", "NaN"])), max_size=25).map("".join)


@settings(max_examples=400, deadline=None)
@given(pieces)
def test_no_text_makes_a_parser_raise(text: str) -> None:
    assert isinstance(parse_json(text, Reply), Reply | Failure)
    assert isinstance(parse_json(text, Names), Names | Failure)
    assert isinstance(parse_tagged(text, "a"), str | Failure)
    score = parse_score(text, 0, 10)
    assert isinstance(score, Failure) or 0 <= score <= 10
    assert len(strip_thinking(text)) <= len(text)


@pytest.mark.parametrize("text", ["[" * 50_000, "{" * 50_000, '{"a":' * 20_000, "[1," * 30_000 + "]" * 30_000,
                                  "<a>" * 10_000, "<think>" * 10_000, "```\n" * 5_000, "1/" * 20_000,
                                  "<think>" * 10_000 + "</think>" + "<think>" * 10_000, '{"a": ' + '"' * 20_000,
                                  "{" * 400 + "a:" * 10_000, "```" + " \n" * 30_000, "score " + " " * 50_000])
def test_hostile_nesting_does_not_make_a_parser_raise(text: str) -> None:
    assert isinstance(parse_json(text, Reply), Failure)
    parse_tagged(text, "a")
    parse_score(text, 0, 10)
    strip_thinking(text)


@given(st.builds(Reply, name=st.text(), count=st.integers(), kind=st.sampled_from(["a", "b"])),
       st.sampled_from(["{}", "```json\n{}\n```", "Here:\n{}"]))
def test_whatever_a_model_writes_correctly_is_read_back(reply: Reply, frame: str) -> None:
    text = json.dumps(reply.model_dump())
    if "think>" not in text and "```" not in text:
        assert parse_json(frame.replace("{}", text), Reply) == reply


# ---------------------------------------------------------------- ask_parsed


class Chat:
    """Says the next of its lines; remembers which sample it was asked for."""

    def __init__(self, *lines: str | Completion) -> None:
        self.lines = iter(lines)
        self.samples: list[int] = []

    async def __call__(self, messages: object, *, sample: int, temperature: float = 0) -> Completion:
        self.samples.append(sample)
        line = next(self.lines)
        return line if isinstance(line, Completion) else Completion(line)


def read_a(text: str) -> str | Failure:
    return parse_tagged(text, "a")


ASKED = ("The task:\nCompare tea and coffee for me, please.\nThe new requirement must be compatible with all of them "
         "and repeat none. It demands an example of a cup. Do not answer the task, and ask for nothing else.")


@pytest.mark.parametrize(("text", "repeats"), [
    ("The task and the new requirement are compatible with all of them and repeat none.", True),  # by a 1.5B model
    ("Write at least 40 words, and ask for nothing else.", True),
    ("Compare tea and coffee for me, please, with an example of a cup.", False),  # the task's own words are given
    ("Name one drawback of each.", False),
    ("", False)])
def test_a_text_that_takes_over_the_questions_instructions_is_seen_and_words_of_the_task_are_free(
        text: str, repeats: bool) -> None:
    given = ["Compare tea and coffee for me, please.", "an example of a cup", ""]
    assert repeats_wording(text, ASKED, given) is repeats


@pytest.mark.parametrize(("text", "echo"), [
    ('"Tell the story\n in the first person."', True), ("a KITE", True), ("in the third person", False),
    ("Tell the story in the first person, slowly", False)])
def test_what_stands_in_the_question_is_an_echo_whatever_its_case_spaces_and_quotes(text: str, echo: bool) -> None:
    assert echoes(text, "Task: tell the story in the first\n person. It is about a kite.") is echo


async def test_an_unreadable_answer_is_asked_for_again_as_another_sample() -> None:
    chat = Chat("nothing", "<a>yes</a>")
    assert await ask_parsed(chat, [], read_a, temperature=0.5) == "yes"
    assert chat.samples == [0, 1]


async def test_asking_again_is_bounded_and_samples_never_overlap() -> None:
    chat = Chat(*["nothing"] * 6)
    assert await ask_parsed(chat, [], read_a, tries=3) == Failure("no_tag", "no <a>")
    await ask_parsed(chat, [], read_a, tries=3, sample=1)
    assert chat.samples == [0, 1, 2, 3, 4, 5]


async def test_an_answer_cut_by_the_token_limit_is_reported_as_truncated() -> None:
    chat = Chat(Completion("<a>cut", "length"))
    got = await ask_parsed(chat, [], read_a, tries=1)
    assert isinstance(got, Failure)
    assert got.reason == "truncated"


async def test_what_the_token_limit_cut_is_not_taken_for_whole() -> None:
    whole, torn = '{"name": "x", "count": 3}', '{"name": "x", "count": 3'
    answers = [Completion(torn, "length"), Completion(whole + " and so", "length")]
    asked: list[int] = []

    async def chat(messages: object, sample: int = 0, **options: object) -> Completion:
        asked.append(sample)
        return answers[sample]

    assert await ask_parsed(chat, [], lambda text: parse_json(text, Reply)) == Reply(name="x", count=3)
    assert asked == [0, 1]
    assert isinstance(parse_json(torn, Reply), Reply)  # what was not cut is still repaired


@pytest.mark.parametrize(("text", "expected"), [
    ("1. one thing\n2. two things\n3. thr", ["one thing", "two things"]), ('["one thing", "tw', []),
    ("one thing\ntwo things\nthr", ["one thing", "two things"])])
async def test_the_last_item_of_a_list_that_was_cut_is_left_out(text: str, expected: list[str]) -> None:
    from if_factory.chat.lists import parse_items

    async def chat(messages: object, **options: object) -> Completion:
        return Completion(text, "length")

    assert await ask_parsed(chat, [], parse_items, tries=1) == expected
