"""Every reason refuses what it names, and leaves the nearby answer alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from if_factory.constraints.base import get
from if_factory.records import Constraint
from if_factory.usefulness.asked import Asked
from if_factory.usefulness.reasons import WHAT
from if_factory.usefulness.repetition import loops
from if_factory.usefulness.rules import REASONS, why_not

THUNDER = "What causes thunder?"
SOAP = "How does soap remove grease?"
POEM = "Write a poem about an old pair of shoes."
FOX = ('Summarize this story: "A fox saw grapes hanging high on a vine and jumped for them again and again. '
       'When he could not reach them, he walked away and said they were surely sour."')
ANSWER = "Lightning heats the air so fast that it bursts outward, and that bang is thunder."


def constraint(type_id: str, **kwargs: Any) -> Constraint:
    return Constraint(type=type_id, kwargs=kwargs, text=get(type_id).descriptions[0].format_map(
        get(type_id).words(kwargs)))


def decided(request: str, response: str, *constraints: Constraint, finish_reason: str = "stop") -> str | None:
    prompt = " ".join((request, *(f"{c.text}." for c in constraints)))
    return why_not(Asked(prompt, constraints), response, finish_reason=finish_reason)


OPENING = constraint("start:phrase", phrase="Let us begin")
NO_COMMA = constraint("punctuation:no_comma")
QUESTION = constraint("end:question")
TITLE = constraint("detectable_format:title")
POSTSCRIPT = constraint("detectable_content:postscript", postscript_marker="P.S.")
WORD = constraint("keywords:existence", keywords=["grease"])


def test_every_reason_is_explained() -> None:
    assert set(REASONS) == set(WHAT)


REFUSED = [
    # refusal, in many languages
    ("refusal", THUNDER, "I cannot help with that.", ()),
    ("refusal", THUNDER, "I'm sorry, but I can't assist with that request.", ()),
    ("refusal", THUNDER, "I’m sorry, but I can’t help with that. If you have other questions, feel free to ask!", ()),
    ("refusal", THUNDER, "As an AI language model, I do not have the ability to answer this.", ()),
    ("refusal", THUNDER, "I don't know.", ()),
    ("refusal", THUNDER, "Unfortunately, I am unable to provide an answer.", ()),
    ("refusal", THUNDER, "很抱歉，我无法回答这个问题。", ()),
    ("refusal", THUNDER, "Lo siento, pero no puedo ayudar con eso.", ()),
    ("refusal", THUNDER, "Je suis désolé, mais je ne peux pas répondre à cette demande.", ()),
    ("refusal", THUNDER, "Es tut mir leid, aber dabei kann ich Ihnen nicht helfen.", ()),
    ("refusal", THUNDER, "Desculpe, mas não posso ajudar com isso.", ()),
    ("refusal", THUNDER, "Mi dispiace, ma non posso aiutarti.", ()),
    ("refusal", THUNDER, "申し訳ありませんが、お答えできません。", ()),
    ("refusal", THUNDER, "К сожалению, я не могу ответить на этот вопрос.", ()),
    ("refusal", THUNDER, "죄송하지만 도와드릴 수 없습니다.", ()),
    ("refusal", SOAP, "Let us begin. I cannot help with that.", (OPENING,)),
    # echoes
    ("echoes_request", THUNDER, "What causes thunder?", ()),
    ("echoes_request", SOAP, "Soap removes grease.", ()),
    ("echoes_request", POEM, "A poem about an old pair of shoes.", ()),
    ("echoes_request", FOX, FOX.partition('"')[2].strip('"'), ()),
    ("echoes_request", FOX, "Here is the summary: " + FOX.partition('"')[2].strip('"'), ()),
    ("echoes_constraint", THUNDER, "There should be no comma anywhere in the answer.", (NO_COMMA,)),
    ("echoes_constraint", THUNDER, "The answer will end with a question mark.", (QUESTION,)),
    # an answer with a sentence that tells its writer what to do
    ("echoes_constraint", THUNDER, f"{ANSWER}\n\nYour answer should only contain commas.", (NO_COMMA,)),
    ("echoes_constraint", THUNDER, f"{ANSWER} End your response with this question. Is it loud?", (QUESTION,)),
    # the request's words with the constraint's
    ("echoes_constraint", "Compare cash with cards.", "When comparing cash with cards avoid using commas altogether. "
     "Instead use a semicolon to separate the list items.", (NO_COMMA,)),
    # the number before an item says nothing
    ("echoes_constraint", THUNDER, "1. The answer contains no comma.\n2. The punctuation must not contain a comma.",
     (NO_COMMA,)),
    ("echoes_request", "Describe a small harbor at dawn in winter.", "A small harbor lies at dawn in winter.", ()),
    # one word of its own at most
    ("echoes_request", "Describe the first snowfall of the year in a mountain town.",
     "The first snowfall of the year is described as a mountain town in a story.", ()),
    # nothing beside what is demanded
    ("only_required_text", SOAP, "Let us begin.", (OPENING,)),
    ("only_required_text", SOAP, "Let us begin: Let us begin.", (OPENING,)),
    ("only_required_text", SOAP, "Grease.", (WORD,)),
    ("only_required_text", SOAP, "<<How soap works>>", (TITLE,)),
    ("only_required_text", SOAP, "Let us begin. P.S. Soap is useful.", (OPENING, POSTSCRIPT)),
    ("only_required_text", SOAP, SOAP, (constraint("combination:repeat_prompt", prompt_to_repeat=SOAP),)),
    ("only_required_text", SOAP, '{"answer": "", "reason": ""}', (constraint("json:keys", keys=["answer", "reason"]),)),
    # help instead of an answer
    ("offers_help_instead", THUNDER, "I'd be happy to help you with that!", ()),
    ("offers_help_instead", THUNDER, "Great question!", ()),
    ("offers_help_instead", POEM, "Sure! Here is a poem about an old pair of shoes:", ()),
    ("offers_help_instead", THUNDER, "Bien sûr ! N'hésitez pas à me dire ce dont vous avez besoin.", ()),
    ("offers_help_instead", THUNDER, "I am here to help you. My goal is to provide information and support.", ()),
    # questions back
    ("asks_back", THUNDER, "What would you like to know about it?", ()),
    ("asks_back", POEM, "What kind of poem do you want?", ()),
    ("asks_back", "How do you clean a greasy oven?", "What kind of oven do you have?", (QUESTION,)),
    # what GRPO found: the request's own question, where the answer is to end in a question
    ("echoes_request", "Should students wear school uniforms? Give two reasons to support your view. Be brief.",
     "Should students wear school uniforms?", (QUESTION,)),
    # blanks
    ("placeholder_text", POEM, "[Insert poem here]", ()),
    ("placeholder_text", THUNDER, "...", ()),
    # numbers, where the request wants words
    ("placeholder_text", SOAP, "1. 1. 1. 2. 3. 4. 5.", ()),
    ("placeholder_text", POEM, "4", ()),
    ("placeholder_text", POEM, "Lorem ipsum dolor sit amet, consectetur adipiscing elit.", ()),
    # loops
    ("repeats_itself", THUNDER, "The air is hot and the air is loud. " * 8, ()),
    ("repeats_itself", POEM, "1. **Paper books**\n2. **Paper **\n3. **Paper **\n4. **Paper **", ()),
    ("repeats_itself", "How do you dry herbs?", "Pick the herbs. Dry them for ten minutes. Dry them again for eight "
     "minutes. Dry them for one hour. Dry them for 24 hours.", ()),
    # marks of the template, and thoughts
    ("control_tokens", THUNDER, ANSWER + "<|im_end|>", ()),
    ("control_tokens", THUNDER, "[INST] " + ANSWER, ()),
    ("control_tokens", THUNDER, ANSWER + "</s>", ()),
    ("reasoning_left_in", THUNDER, "<think>The user asks about thunder.</think>" + ANSWER, ()),
    ("reasoning_left_in", THUNDER, "[THINK]Air expands.[/THINK]" + ANSWER, ()),
    ("reasoning_left_in", THUNDER, "<|channel|>analysis<|message|>Air expands." + ANSWER, ()),
    # language
    ("wrong_language", THUNDER, "El trueno es el ruido que hace el aire cuando un rayo lo calienta y se expande muy "
     "rápido, como una explosión que se oye en el cielo.", ()),
    ("wrong_language", "Explique por qué truena y qué lo causa.", "Thunder is the sound that the air makes when "
     "lightning heats it, and it is heard after the flash.", ()),
]


@pytest.mark.parametrize(("reason", "request_", "response", "constraints"), REFUSED)
def test_refused(reason: str, request_: str, response: str, constraints: tuple[Constraint, ...]) -> None:
    assert decided(request_, response, *constraints) == reason


def test_a_worked_example_is_copied_only_on_another_subject() -> None:
    bread = "Keep bread in a box.\n\nP.S. A slice of apple in the box keeps soft bread moist for another day."
    assert decided("How can I keep bread fresh for longer?", bread, POSTSCRIPT) is None
    laptop = "Lower the brightness and close what you do not use.\n\nP.S. A slice of apple in the box keeps it fresh."
    assert decided("How can I make my laptop's battery last longer?", laptop, POSTSCRIPT) == "copies_example"
    own = "Lower the brightness and close what you do not use.\n\nP.S. A cool room keeps it fresh for longer."
    assert decided("How can I make my laptop's battery last longer?", own, POSTSCRIPT) is None


@pytest.mark.parametrize(("response", "reason"), [
    ("Before you adopt a dog, talk with everybody at home.\n\n1. **For whom it is:**\n   - Think of your children.",
     "echoes_constraint"),
    ("Dogs need time.\n- Tone: a serious one helps you decide.\n- Focus: the walks come first.", "echoes_constraint"),
    ("Dogs need time.\n\nTone: speak calmly to the dog, and let it come to you first.", None),
    ("Dogs need time, a garden and a family who knows for whom it is: for you all.", None)])
def test_an_answer_is_not_headed_by_the_names_of_its_constraints(response: str, reason: str | None) -> None:
    asked = [Constraint(type="judge:criterion", kind="judge", text=text)
             for text in ("for whom it is: a family", "Tone: serious", "Focus: walks")]
    assert decided("What should I think about before adopting a dog from a shelter?", response, *asked) == reason


def test_cut_by_the_token_limit() -> None:
    assert decided(THUNDER, ANSWER, finish_reason="length") == "cut"
    assert decided(THUNDER, ANSWER) is None


KEPT = [
    # a refusal that goes on to answer, is mentioned, or is asked for
    (THUNDER, "I'm sorry, but I cannot give you a physicist's account; in short, lightning heats the air until it "
     "bursts outward. That shock wave travels for kilometres and reaches the ear as a rumble, since each part of the "
     "channel lies at another distance from you.", ()),
    ("What will the weather be in May?", "I cannot predict it, but in May it is often warm and dry here.", ()),
    ("What did the clerk say?", 'The clerk said "I cannot help with that" and closed the window.', ()),
    ("Write a polite message that declines a party invitation.", "I am sorry, I cannot come on Friday.", ()),
    ("Translate into English: 对不起，我不能帮你。", "I'm sorry, I cannot help you.", ()),
    # short answers
    ("What is the capital of France?", "Paris.", ()),
    ("How many legs does a spider have?", "8", ()),
    ("Write the first five primes as a list.", "2, 3, 5, 7, 11", ()),
    ("What is the capital of France?", "Paris.", (constraint("keywords:existence", keywords=["Paris"]),)),
    ("What is the capital of France?", "The capital of France is Paris.", ()),
    ("Is water wet?", "Yes.", ()),
    ("Is the sky blue?", "The sky is blue.", ()),
    ("Is the sky blue?", "Certainly.", ()),
    ("Which is heavier, gold or cork?", "Gold.", ()),
    ("How much is 6 times 7?", "42", ()),
    ("Reply with the single word OK and nothing else.", "OK", ()),
    ("Is the review positive? \"It stopped working.\"", "The review is not positive.", (NO_COMMA,)),
    # tasks that share words with the request
    ('Correct this sentence: "He go to school."', "He goes to school.", ()),
    ('Sort these words: "pear, apple, fig, quince, melon"', "apple, fig, melon, pear, quince", ()),
    ('Rewrite in the past tense: "Tom opens the door, sees the snow, and runs outside."',
     "Tom opened the door, saw the snow, and ran outside.", ()),
    (FOX, "A fox that could not reach some grapes said they were sour.", ()),
    # what constraints demand
    (SOAP, f"{SOAP} Its molecules grip oil on one side and water on the other.",
     (constraint("combination:repeat_prompt", prompt_to_repeat=SOAP),)),
    (SOAP, "Its molecules grip oil and water.\n******\nIt surrounds oil droplets, which water then carries away.",
     (constraint("combination:two_responses"),)),
    (THUNDER, "Did you know that lightning heats the air until it bursts?", (QUESTION,)),
    ("Should students wear school uniforms? Be brief.", "They hide what a family earns. Should students wear school "
     "uniforms?", (QUESTION,)),
    (THUNDER, "Der Blitz erhitzt die Luft so schnell, dass sie sich wie bei einer Explosion ausdehnt und knallt.",
     (constraint("language:response_language", language="de"),)),
    ("Is coffee a fruit?", "My answer is maybe.", (constraint("detectable_format:constrained_response"),)),
    (THUNDER, '{"answer": "hot air bursting around lightning"}', (constraint("json:keys", keys=["answer"]),)),
    (THUNDER, "In [country] lightning heats the air [number] times a day until it bursts.",
     (constraint("detectable_content:number_placeholders", num_placeholders=2),)),
    (THUNDER, "Let us begin. " + ANSWER, (OPENING,)),
    # remarks and advice about answers are no instruction to the writer
    (THUNDER, f"{ANSWER} Note: this response has no commas in it, as requested.", (NO_COMMA,)),
    ("How should I reply to a rude comma complaint?", "Keep your reply short and calm, with thanks for the letter.",
     (WORD,)),
    ("Name a book about the sea.", "<<Moby Dick>>", ()),
    # asked for
    ("Write three interview questions for a baker.", "What is your favourite bread?\nWhy do you bake?\nWhen?", ()),
    ("Write a letter to a landlord.", "Dear [Name],\nthe kitchen faucet leaks and the floor is wet. Please send a "
     "plumber this week.\nKind regards,\n[Your Name]", ()),
    ("Write a regular expression that matches exactly five digits.", r"^\d{5}$", ()),
    ("What does <|im_end|> mean?", "<|im_end|> closes a turn of a chat.", ()),
    ("How do you write thunder in Spanish, with a sentence?", "El trueno es el ruido que hace el aire cuando un rayo "
     "lo calienta y se expande muy rápido, como una explosión que se oye.", ()),
    ("List five kinds of pasta.", "1. Spaghetti\n2. Penne rigate\n3. Farfalle\n4. Orecchiette\n5. Tagliatelle", ()),
    ("Repeat the word sea ten times.", "sea " * 10, ()),
    ("Write a poem about a cold bus stop.", "Still no bus,\nstill the wind,\nstill no bus,\nmy scarf is thin.\n\n"
     "Still no bus,\nthe lamp burns low.\nStill no bus.\nI walk home slow.", ()),
    ("Show 7 times 1 to 7 times 4.", "7 times 1 is 7.\n7 times 2 is 14.\n7 times 3 is 21.\n7 times 4 is 28.", ()),
    ("How do I start to run?", "Run for ten minutes on the first day. Rest for two days. Run for twelve minutes with a "
     "friend. Run for 15 minutes up a hill. Rest again for a week if your knees ache.", ()),
    ("Describe a small harbor at dawn in winter.", "Grey boats rock in a small harbor, and gulls cry.", ()),
    ("Explain why apples fall from trees.", "Apples fall from trees because of gravity.", ()),
    ("Explain why the sky looks blue during the day.",
     "The sky looks blue during the day because blue light scatters.", ()),
    ("Compare frogs with toads.", "Toads are drier than frogs and also larger.", ()),
    ("Compare cash with cards.", "Use cash to avoid fees. Use cards to avoid a full purse.", (NO_COMMA,)),
    (THUNDER, "I'd be happy to help. Lightning heats the air until it bursts.", ()),
    (THUNDER, "Why does it rumble? Because lightning heats the air until it bursts.", ()),
]


@pytest.mark.parametrize(("request_", "response", "constraints"), KEPT)
def test_kept(request_: str, response: str, constraints: tuple[Constraint, ...]) -> None:
    assert decided(request_, response, *constraints) is None


def _drawn() -> list[Constraint]:
    """One constraint of every type that can be drawn for the seed, arguments and text as a run has them."""
    from random import Random

    from if_factory.constraints.base import all_types

    found = []
    for kind in all_types():
        kwargs = kind.sample(Random(kind.type), THUNDER)
        if kwargs is not None:
            found.append(Constraint(type=kind.type, kwargs=kwargs, text=kind.describe(kwargs, Random(1))))
    return found


@pytest.mark.parametrize("drawn", _drawn(), ids=lambda c: c.type)
def test_what_is_demanded_is_never_held_against_an_answer(drawn: Constraint) -> None:
    """An answer that also holds all that a constraint demands stays an answer; the demanded text alone is none."""
    from if_factory.usefulness.strip import required_text

    demanded = required_text(drawn)
    before = "" if drawn.type == POSTSCRIPT.type else " ".join(demanded)
    assert decided(THUNDER, f"{before} {ANSWER} {' '.join(demanded)}", drawn) is None
    alone = decided(THUNDER, " ".join(demanded) or "...", drawn)
    assert alone in ("only_required_text", "placeholder_text") or any(" " not in text for text in demanded)


@given(st.text(max_size=300), st.text(max_size=120))
def test_any_text_gets_a_verdict(response: str, request_: str) -> None:
    found = decided(request_ or "x", response, OPENING, QUESTION)
    assert found is None or found in REASONS
    assert decided(request_ or "x", response, OPENING, QUESTION) == found


@pytest.mark.parametrize("piece", ["the end ", "i am ", "sorry but ", "。", "？", "[", "<|", '"', "what you ", ": "])
def test_long_repetitive_text_is_decided_at_once(piece: str) -> None:
    """No pattern goes back over the same text again and again; this test would not end."""
    decided(FOX, piece * 20_000, OPENING, QUESTION)


def test_poems_with_a_refrain_do_not_loop() -> None:
    assert not loops("\n".join(f"The {w} is old\nand the road is long." for w in ("shoe", "lace", "sole", "heel")))
