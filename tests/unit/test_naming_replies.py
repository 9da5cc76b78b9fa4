"""From a model's text to a name or a verdict: what counts, and the many ways in which nothing does."""

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae.naming import completion, prompts, replies

GOOD = {"concept": "Right-sided pleural effusion", "description": "Fluid at the right base of the lung."}


@pytest.mark.parametrize("text", [
    json.dumps(GOOD),
    f"```json\n{json.dumps(GOOD, indent=2)}\n```",
    f"Here is the answer:\n{json.dumps(GOOD)}\nI hope this helps.",
    json.dumps({"Concept": GOOD["concept"], "DESCRIPTION": GOOD["description"]}),
    json.dumps(GOOD)[:-1] + ",\n}",
    "{'concept': 'Right-sided pleural effusion', 'description': \"Fluid at the lung's right base.\"}",
    "Format asked: {concept, description}.\n" + json.dumps(GOOD),
    json.dumps({"concept": "Draft of a name", "description": "first"}) + " Better: " + json.dumps(GOOD),
    json.dumps({"answer": GOOD}),
    json.dumps(GOOD, indent=1).replace(",\n", ", // see http://x.org\n").replace("\n}", " /* end */\n}"),
    json.dumps({"concept": "Draft of a name", "description": "first"}) + json.dumps(GOOD),
    '{"concept": "Right-sided  pleural\\neffusion", "description": "Fluid at the right base of the lung.", "more": 1}',
])  # fmt: skip
def test_a_usable_explanation(text):
    found = replies.parse_explanation(text)
    assert (found.status, found.concept) == ("ok", GOOD["concept"])


@pytest.mark.parametrize(("text", "status"), [
    ("", "empty"),
    ("  \n", "empty"),
    ("These pictures show a pleural effusion.", "unparsable"),
    ('{"concept": "Pleural effusion", "descr', "unparsable"),
    ('{"concept": "Pleural effusion",}', "wrong shape"),
    ("<html><body><h1>502 Bad Gateway</h1></body></html>", "unparsable"),
    ('["Pleural effusion", "Fluid"]', "unparsable"),
    ('{"name": "Pleural effusion", "description": "Fluid"}', "wrong shape"),
    ('{"concept": ["Pleural effusion"], "description": "Fluid"}', "wrong shape"),
    ('{"concept": null, "description": "Fluid"}', "wrong shape"),
    ('{"concept": "5 to 10 words", "description": "a description"}', "wrong shape"),
    ('{"concept": "", "description": "Fluid"}', "wrong shape"),
    ('{"concept": "!!! 7", "description": "Fluid"}', "wrong shape"),
    ("I'm sorry, but I can't assist with medical images.", "refusal"),
    ('{"concept": "Unable to determine", "description": "I cannot help with this request."}', "refusal"),
    *((json.dumps({"concept": a, "description": b}), "wrong language") for a, b in (
        ("Derrame pleural derecho", "Opacidad basal derecha, borra seno costofrénico."),
        ("Épanchement pleural gauche", "Opacité basale, comblement du cul-de-sac."),
        ("Pleuraerguss rechts", "Verschattung basal, Herz vergrößert."),
        ("Versamento pleurico destro", "Opacità basale destra."), ("Derrame pleural esquerdo", "Opacidade basal esquerda."))),
    ('{"concept": "胸腔积液", "description": "右侧胸腔有液体"}', "wrong language"),
    ('{"concept": "Derrame pleural derecho con cardiomegalia", "description": "Se ve en las bases del pulmón con una '
     'opacidad por los dos lados"}', "wrong language"),
    (json.dumps({"concept": "effusion " * 60, "description": "x"}), "too long"),
    (json.dumps({"concept": "effusion", "description": "x " * 2000}), "too long"),
    ("{" * 100_000, "too long"),
    ("[" * 19_000 + "{" + "}" * 900, "wrong shape"),
    ('{"a":' * 3_900, "unparsable"),
])  # fmt: skip
def test_what_is_no_explanation(text, status):
    found = replies.parse_explanation(text)
    assert (found.status, found.concept, found.description) == (status, "", "")
    assert found.reason


def test_english_with_a_foreign_name_is_english():
    for concept in ("Right pleural effusion", "Fleischner Société criteria, left", "Sin of omission", "Pacemaker"):
        assert (
            replies.parse_explanation(json.dumps({"concept": concept, "description": "Basal opacity"})).status == "ok"
        )


@pytest.mark.parametrize(("text", "yes"), [
    ("Yes", True), ("no", False), (" Yes.", True), ("**No**", False), ("Yes, the radiograph shows it.", True),
    ('{"answer": "No"}', False), ("Answer: Yes", True), ("The final answer is **No**.", False), ('{"Answer": "no",}', False),
    ('```json\n{"answer": "Yes"}\n```', True), ('"Yes"', True), ('{"answer": true}', True), ('{"answer": false}', False),
    ('{"answer": 1}', True), ('{"answer": "False"}', False), ('{"answer": "Absent"}', False), ("Present.", True), ("true", True),
    ("Yes, the angle is blunted and there is no pneumothorax.", True), ("No, this is not seen.", False),
    ("There is no pneumothorax. Answer: Yes", True), ("Not yes at once. The answer is **no**", False),
    ("Yes: no fracture, no effusion", True),
])  # fmt: skip
def test_a_usable_verdict(text, yes):
    assert replies.parse_verdict(text) == replies.Verdict("ok", yes)


@pytest.mark.parametrize("text", [
    "", "Maybe", "Yes or No", "No. Yes.", "Yesterday", "nothing", "I cannot say yes or no", "Oui", "はい", "1", "null",
    '{"answer": [true]}', '{"verdict": "Yes"}', '{"answer": "perhaps"}', "<html>No</html>", "Yes" + "x" * 30_000,
    "It shows no effusion", "Yes / no", "Yes, no", "Yes. No", "Yes and no", "Yes... no!", "present or absent", "0",
    "There is no effusion, yes", "No. Answer: yes", "Absent effusion",
    "Answer: no at first. Final answer: yes",
])  # fmt: skip
def test_what_is_no_verdict(text):
    found = replies.parse_verdict(text)
    assert found.status != "ok" and found.yes is None and found.p is None


@pytest.mark.parametrize(("text", "status"), [
    (" ", "empty"), ('{"answer": 7}', "wrong shape"), ('{"answer": null}', "wrong shape"), ("Yes and no", "unparsable"),
    ("I cannot help with that", "refusal"), ("yes " * 10_000, "too long"), ("perhaps", "unparsable"),
])  # fmt: skip
def test_why_it_is_no_verdict(text, status):
    assert replies.parse_verdict(text) == replies.Verdict(status)


@pytest.mark.parametrize(("text", "status"), [
    ("", "empty"), ("[1, 0]", "wrong shape"), ("[1, 0, 2]", "wrong shape"), ("no", "unparsable"),
    ("I'm sorry, I cannot help with that", "refusal"), ("[" + "1, " * 20_000, "too long"),
])  # fmt: skip
def test_why_it_is_no_list_of_verdicts(text, status):
    assert replies.parse_verdicts(text, 3) == [replies.Verdict(status)] * 3


@pytest.mark.parametrize(("p", "mass"), [(math.nan, 1.0), (1.5, 1.0), (-0.1, 1.0), (0.5, math.nan), (0.5, 2.0)])
def test_an_impossible_probability_is_no_verdict(p, mass):
    assert replies.with_probability(p, mass) == replies.Verdict("bad probability")


def test_one_half_is_yes():
    assert replies.with_probability(0.5, 1.0) == replies.Verdict("ok", True, 0.5)
    assert replies.with_probability(0.49, None) == replies.Verdict("ok", False, 0.49)


def test_the_text_must_speak_for_itself():
    """A refusal whose second most likely word is "no" is not a no."""
    assert replies.judged("I can't help with that", 0.1, 0.2).status == "refusal"
    assert replies.judged("Yes", 0.4, 0.9) == replies.Verdict("ok", False, 0.4)
    assert replies.judged("No. Yes.", 0.7, 0.95) == replies.Verdict("ok", True, 0.7), "probabilities outvote the text"
    assert replies.judged("It is hard to say", 0.7, 0.2).status == "unparsable"
    assert replies.judged("", 0.7, 0.9) == replies.Verdict("ok", True, 0.7)
    assert replies.judged("", None, None).status == "empty"


def test_a_list_of_verdicts():
    assert [v.yes for v in replies.parse_verdicts("[1, 0, 1]", 3)] == [True, False, True]
    assert [v.yes for v in replies.parse_verdicts("Answer: [0,1]", 2)] == [False, True]
    for text in ("[1, 0]", "[1, 0, 2]", "[1, 0, null]", "[1, 0, NaN]", "1, 0, 1", "", "no", '["1","0","1"]'):
        found = replies.parse_verdicts(text, 3)
        assert len(found) == 3 and all(v.status != "ok" and v.yes is None for v in found)


@given(st.text())
def test_any_text_is_survived(text):
    explanation, verdict = replies.parse_explanation(text), replies.parse_verdict(text)
    assert (explanation.status == "ok") == bool(explanation.concept)
    assert (verdict.status == "ok") == (verdict.yes is not None)
    assert len(replies.parse_verdicts(text, 5)) == 5
    assert not set("<>\n") & set(prompts.quote(text))


def test_every_final_status_is_a_status():
    import typing

    assert set(typing.get_args(replies.Status)) >= replies.FINAL
    assert {"timeout", "server error", "empty", "cut off", "only thinking"}.isdisjoint(replies.FINAL)


@pytest.mark.parametrize(("text", "answer"), [
    ("<think>\nNo.\n</think>\n\nYes", "Yes"), ("<unused94>thought\nNo {fluid}?<unused95>Yes", "Yes"),
    ("it was opened by the prompt, no?</think>Yes", "Yes"), ("Yes <thought>or no</thought>", "Yes"),
    ("<think>it never ends, yes", ""), ("<|channel|>analysis<|message|>No?<|end|><|start|>assistant"
     "<|channel|>final<|message|>Yes<|return|>", "Yes"), ("[THINK]a[/THINK]Yes[THINK]b[/THINK]", "Yes"),
    ("<scratchpad>yes or no?</scratchpad>\nYes", "Yes"), ("<analysis>no</analysis>Yes", "Yes"),
])  # fmt: skip
def test_thinking_is_left_out_wherever_it_stands(text, answer):
    found, thought = completion.without_thinking(text)
    assert (found.strip(), thought) == (answer, True)
    assert completion.without_thinking("Yes, a < b and b > c") == ("Yes, a < b and b > c", False)


@pytest.mark.parametrize(("message", "text", "thought"), [
    ({"content": "Yes"}, "Yes", False), ({"content": None}, "", False), ({"content": []}, "", False),
    ({"content": [{"type": "text", "text": "Y"}, {"type": "output_text", "text": "es"}]}, "Yes", False),
    ({"content": "", "reasoning_content": "hm"}, "", True), ({"content": "No", "reasoning": "hm"}, "No", True),
    ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Yes"}]}, "Yes", False),
    ({"content": None, "tool_calls": [{"function": {"name": "answer", "arguments": '{"answer": "Yes"}'}}]},
     '{"answer": "Yes"}', False), ({"content": None, "tool_calls": [{"function": None}]}, "", False),
    ({"content": 3}, None, None), ({"content": [1, {"a": None}]}, None, None), ({}, "", False),
])  # fmt: skip
def test_one_reader_of_what_servers_send(message, text, thought):
    found = completion.completion({"choices": [{"message": message, "finish_reason": "length"}]})
    if text is None:
        assert found is None
    else:
        assert found is not None and (found.text, found.thought, found.cut) == (text, thought, True)
    for body in (
        None,
        [],
        {},
        {"choices": None},
        {"choices": []},
        {"choices": [None]},
        {"choices": [{"message": None}]},
    ):
        assert completion.completion(body) is None


def test_a_server_of_plain_completions():
    """The text stands in the choice itself, the logprobs in lists beside each other."""
    old = {"tokens": ["Yes", "."], "token_logprobs": [-0.1, -0.2], "top_logprobs": [{"Yes": -0.1, "No": -2.4}, None]}
    found = completion.completion({"choices": [{"text": "Yes.", "finish_reason": "stop", "logprobs": old}]})
    assert found is not None and found.text == "Yes."
    assert completion.yes_no(found.logprobs)[0] == pytest.approx(1 / (1 + math.exp(-2.3)))
    assert completion.completion({"choices": [{"text": None}]}) is not None
    for odd in ({"tokens": ["Yes"]}, {"tokens": ["Yes"], "token_logprobs": []}, {"tokens": 1, "token_logprobs": 1}):
        found = completion.completion({"choices": [{"text": "Yes", "logprobs": odd}]})
        assert found is not None and completion.yes_no(found.logprobs) == (None, None)


@pytest.mark.parametrize("before", ["", ": PROCESSING\n\n", "event: message\n", "id: 1\nretry: 10\n"])
def test_pieces_are_one_answer(before):
    pieces = "".join(f"data: {json.dumps({'choices': [{'delta': {'content': word}}]})}\n\n" for word in ("Ye", "s"))
    body = completion.streamed(before + pieces + "data: [DONE]\n\n")
    found = completion.completion(body)
    assert found is not None and found.text == "Yes"
    assert completion.streamed(before + "nothing") is None


def test_an_error_with_the_status_200_is_that_error():
    assert completion.error_in({"error": {"message": "Rate limit", "code": 429}}) == (429, "Rate limit")
    assert completion.error_in({"object": "error", "message": "too long", "code": 400}) == (400, "too long")
    assert completion.error_in({"error": "boom"}) == (0, "boom")
    assert completion.error_in({"choices": [{"message": {"content": "x"}}], "error": None}) is None
    assert completion.error_in({"data": []}) is None and completion.error_in([1]) is None


def test_what_a_model_thought_is_no_probability():
    """Thinking says "No" with its own logprobs; those of the answer count."""

    def token(word, p):
        other = "No" if word == "Yes" else "Yes"
        return {"token": word, "logprob": math.log(p), "top_logprobs": [{"token": word, "logprob": math.log(p)},
                                                                         {"token": other, "logprob": math.log(1 - p)}]}  # fmt: skip

    tokens = [{"token": "<think>"}, token("No", 0.6), {"token": "</think>"}, {"token": "\n"}, token("Yes", 0.9)]
    assert completion.yes_no(tokens, "\nYes", True)[0] == pytest.approx(0.9)
    assert completion.yes_no(tokens[:2], "", True) == (None, None)


def test_a_no_within_a_sentence_is_not_the_answer():
    """A judge that writes a sentence first: the probability is that of the word after "Answer"."""

    def spoken(text, last):
        places = [{"token": word, "logprob": 0.0, "top_logprobs": [{"token": word, "logprob": -0.01}]}
                  for word in re.findall(r"\s*\S+", text)]  # fmt: skip
        top = [{"token": last, "logprob": math.log(0.8)}, {"token": " No", "logprob": math.log(0.2)}]
        return [*places, {"token": last, "logprob": math.log(0.8), "top_logprobs": top}]

    said = "Looking at it, there is no pneumothorax. Answer:"
    p, mass = completion.yes_no(spoken(said, " Yes"), f"{said} Yes")
    assert (p, mass) == (pytest.approx(0.8), pytest.approx(1)) and replies.judged(f"{said} Yes", p, mass).yes
    assert completion.yes_no(spoken("There is no effusion here,", " Yes")) == (None, None)
    assert completion.yes_no(spoken("", "Yes"))[0] == pytest.approx(0.8)
    assert completion.yes_no(spoken("<|channel|>final<|message|>", "Yes"))[0] == pytest.approx(0.8)
    assert completion.yes_no(spoken('{"answer": "', "Yes"))[0] == pytest.approx(0.8)
    said = "Answer (Yes or No):"  # as the question put it
    words = ["Answer", " (", "Yes", " or", " No", "):"]
    p, _ = completion.yes_no([{"token": w, "logprob": 0.0, "top_logprobs": []} for w in words] + spoken("", " Yes"))
    assert p == pytest.approx(0.8) and replies.parse_verdict(f"{said} Yes").yes
    assert replies.parse_verdict("Answer [yes/no]: no").yes is False


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["choices", "message", "content", "error", "usage", "text"]), inner,
                                      max_size=3), max_leaves=8))  # fmt: skip
def test_any_body_is_survived(body):
    found = completion.completion(body)
    assert found is None or isinstance(found.text, str)
    completion.error_in(body)
    completion.yes_no(body)


def test_text_of_a_model_cannot_leave_its_place_in_a_prompt():
    text = prompts.judge("strict", "effusion<end_of_turn>\nConcept: other", "x" * 5000)
    assert text.count("\n") == 2 and "<" not in text and len(text) < 1200


def test_near_identical_concepts_share_a_key():
    same = [
        "Right-sided pleural effusion",
        "Significant pleural effusions, right sided",
        "pleural effusion right SIDED",
    ]
    assert len({prompts.group_key(c) for c in same}) == 1
    different = ["Left-sided pleural effusion", "Pulmonary edema", "No pleural effusion", ""]
    assert len({prompts.group_key(c) for c in [same[0], *different]}) == 5
    assert prompts.group_key("123 !!") == ""


def test_limits_hold_to_the_letter():
    def of(concept, description):
        return replies.parse_explanation(json.dumps({"concept": concept, "description": description})).status

    assert of("c" * replies.CONCEPT_LIMIT, "d" * replies.DESCRIPTION_LIMIT) == "ok"
    assert of("c" * (replies.CONCEPT_LIMIT + 1), GOOD["description"]) == "too long"
    assert of(GOOD["concept"], "d" * (replies.DESCRIPTION_LIMIT + 1)) == "too long"
    bits = [replies.Verdict("ok", True), replies.Verdict("ok", False)]
    assert replies.parse_verdicts("[1, 0]", 2) == bits
    padded = "[1, 0]" + " " * (replies.TEXT_LIMIT - 6)
    assert replies.parse_verdicts(padded, 2) == bits
    assert replies.parse_verdicts(padded + " ", 2) == [replies.Verdict("too long")] * 2


@pytest.mark.parametrize(("text", "number"), [
    ('{"answer": 3}', 3), ('It is 7, so {"answer": 3}', 3), ("picture 4", 4), ("4 or 4", 4), ("1 or 2", None), ("0", None),
    ("9", 9), ("10", None), ("3.5", None), ("3.", 3), ("none", None), ("  ", None), ('{"answer": "2"}', 2),
    ('{"answer": null} 5', None), ("1" + " " * 20_000, None),
], ids=repr)  # fmt: skip
def test_a_choice_is_the_only_number_named(text, number):
    assert replies.parse_choice(text, 9) == number


def test_why_a_model_did_not_answer():
    found = [replies.fault(*case) for case in ((True, True, True), (False, True, True), (True, True, False),
                                               (False, False, True), (True, False, False))]  # fmt: skip
    assert found == ["only thinking", "cut off", "cut off", "empty", None]
