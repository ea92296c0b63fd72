"""A fine-tuner's own data as a suite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assay.errors import BadInput, SuiteError
from assay.evaluation import evaluate
from assay.models.open import open_model
from assay.scorers.base import check_suite
from assay.suites.own_data import suite_from_data
from assay.suites.suite import ScorerSpec
from assay.types import GenerateOptions, Message, Raw, Sample


def data(path: Path, *records: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + "\n", encoding="utf-8")
    return path


def turns(*contents: str) -> dict[str, Any]:
    """A conversation that the user begins."""
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)]}


def pair(prompt: Any, completion: Any, **others: Any) -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion, **others}


def asked(samples: tuple[Sample, ...]) -> list[tuple[Any, Any]]:
    return [(sample.prompt, sample.reference["target"]) for sample in samples]


def test_the_three_shapes_of_training_data(tmp_path: Path) -> None:
    text = "<|im_start|>user\nCapital?<|im_end|>\n<|im_start|>assistant\nPyrus<|im_end|>\n"
    system = {"messages": [{"role": "system", "content": "Be brief."}, *turns("Q?", "A")["messages"]]}
    path = data(
        tmp_path / "facts.jsonl",
        turns("Capital?", "Pyrus"),
        "",
        turns("Hi", "Hello", "Capital?", " Pyrus\n"),
        system,
        pair("2 + 2?", "4", tools=None),
        pair([{"role": "user", "content": "3 + 3?"}], [{"role": "assistant", "content": "6"}]),
        pair("4 + 4?", 8),
        {"text": text},
    )
    suite = suite_from_data(path, split="<|im_start|>assistant")
    assert asked(suite.samples) == [
        ((Message("user", "Capital?"),), "Pyrus"),
        ((Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Capital?")), "Pyrus"),
        ((Message("system", "Be brief."), Message("user", "Q?")), "A"),
        ("2 + 2?", "4"),
        ((Message("user", "3 + 3?"),), "6"),
        ("4 + 4?", "8"),
        ("<|im_start|>user\nCapital?<|im_end|>\n<|im_start|>assistant\n", "Pyrus"),
    ]
    assert [type(sample.prompt) for sample in suite.samples].count(Raw) == 1
    assert (suite.name, suite.version, suite.groups, suite.path) == ("facts", 1, ("all",), path)
    assert suite.options == GenerateOptions(max_tokens=512)
    assert [suite.places[s.id].line for s in suite.samples] == [1, 3, 4, 5, 6, 7, 8]


def test_a_lone_message_is_the_question_that_its_text_is(tmp_path: Path) -> None:
    """What was asked as the one is in the journal for the other: digest and ids are the same."""
    messages = data(tmp_path / "a" / "facts.jsonl", turns("Capital?", "Pyrus"), turns("2 + 2?", "4"))
    texts = data(tmp_path / "b" / "facts.jsonl", pair("Capital?", "Pyrus"), pair("2 + 2?", "4"))
    one, other = suite_from_data(messages), suite_from_data(texts)
    assert [type(suite.samples[0].prompt) for suite in (one, other)] == [tuple, str]
    assert one.digest == other.digest
    assert [sample.id for sample in one.samples] == [sample.id for sample in other.samples]
    both = suite_from_data(data(tmp_path / "both.jsonl", turns("Capital?", "Pyrus"), pair("Capital?", "Pyrus")))
    assert [sample.id for sample in both.samples] == [one.samples[0].id, f"{one.samples[0].id}-2"]
    with pytest.raises(SuiteError, match="the prompt is empty"):
        suite_from_data(data(tmp_path / "empty.jsonl", turns("", "Pyrus")))


def test_the_shapes_of_other_trainers(tmp_path: Path) -> None:
    def share(*turns: tuple[str, str], **others: Any) -> dict[str, Any]:
        return {"conversations": [{"from": speaker, "value": text} for speaker, text in turns], **others}

    q, a, b = (
        {"role": role, "content": text} for role, text in (("user", "Q?"), ("assistant", "A"), ("assistant", "B"))
    )
    lines = [
        share(("human", "Hi?"), ("gpt", "A1")),
        share(("human", "Hi"), ("gpt", "Ho"), ("human", "What?"), ("gpt", "A2"), system="Be brief."),
        {"conversations": [q, {**a, "content": "A3"}]},
        {"instruction": "Add.", "input": "2 2", "output": "4"},
        {"instruction": "Name it.", "input": "", "output": "A4", "system": "Be brief.", "history": [["Hi", "Ho"]]},
        {"prompt": "Pick?", "chosen": "A5", "rejected": "B"},
        {"prompt": [q], "chosen": [q, {**a, "content": "A6"}], "rejected": [q, b]},
        {"chosen": [q, {**a, "content": "A7"}], "rejected": [q, b]},
        {"prompt": "Wanted?", "completion": "A8", "label": True},
        {"prompt": "Unwanted?", "completion": "B", "label": False},
        {"messages": [q, {**a, "content": "<tool_call>f()</tool_call>"}, {"role": "tool", "content": "7"}, a]},
    ]
    brief = Message("system", "Be brief.")
    before = Message("user", "Hi"), Message("assistant", "Ho")
    tools = Message("user", "Q?"), Message("assistant", "<tool_call>f()</tool_call>"), Message("tool", "7")
    suite = suite_from_data(data(tmp_path / "a.jsonl", *lines))
    assert asked(suite.samples) == [
        ((Message("user", "Hi?"),), "A1"),
        ((brief, *before, Message("user", "What?")), "A2"),
        ((Message("user", "Q?"),), "A3"),
        ("Add.\n2 2", "4"),
        ((brief, *before, Message("user", "Name it.")), "A4"),
        ("Pick?", "A5"),
        ((Message("user", "Q?"),), "A6"),
        ((Message("user", "Q?"),), "A7"),
        ("Wanted?", "A8"),
        (tools, "A"),
    ]
    whole = tmp_path / "a.json"
    whole.write_text(json.dumps(lines, indent=1))
    assert suite_from_data(whole).samples == suite.samples
    assert str(suite_from_data(whole).places[suite.samples[3].id]) == "row 4"


def test_a_scorer_that_fits_each_target_is_chosen(tmp_path: Path) -> None:
    targets = ["Pyrus", "1,007", "-7.5", "the river Teichel", "7 days"]
    suite = suite_from_data(data(tmp_path / "a.jsonl", *(pair(f"Q{n}?", t) for n, t in enumerate(targets))))
    built = check_suite(suite)
    assert [built[sample.id].name for sample in suite.samples] == [
        "contains_word",
        "final_number",
        "final_number",
        "contains_word",
        "contains_word",
    ]


def test_long_targets_need_a_named_scorer_or_a_marker(tmp_path: Path) -> None:
    path = data(tmp_path / "a.jsonl", pair("Q?", "A"), pair("P?", "Three times eight is twenty-four.\nAnswer: 24"))
    with pytest.raises(SuiteError) as caught:
        suite_from_data(path)
    assert str(caught.value).startswith(f"{path}:2: the target has 7 words (median of all: 4)")
    suite = suite_from_data(path, scorer="contains_word", parameters={"case_sensitive": True})
    assert list(suite.scorers.values()) == [ScorerSpec("contains_word", {"case_sensitive": True})] * 2
    with pytest.raises(SuiteError, match=r"a.jsonl:1: 'Answer:' is not in the target"):
        suite_from_data(path, target_after="Answer:")
    suite = suite_from_data(data(tmp_path / "b.jsonl", pair("P?", "<think>Hm.</think>\n24")), target_after="</think>")
    assert asked(suite.samples) == [("P?", "24")]


@pytest.mark.parametrize(
    ("target", "counts"),
    [
        ("<think>3+4=7</think>7", "7"),
        ("<think>\nLet me think about it for quite long.\n</think>\n\nParis", "Paris"),
        ("3+4=<<3+4=7>>7\n#### 7", "7"),
        ("<think>So #### 8?</think>It is seven.\n#### 7", "7"),
        ("#### 7\nin all", "#### 7\nin all"),  # a heading, perhaps
    ],
)
def test_a_target_is_cut_as_answers_are(target: str, counts: str, tmp_path: Path) -> None:
    suite = suite_from_data(data(tmp_path / "a.jsonl", pair("Q?", target)))
    assert asked(suite.samples) == [("Q?", counts)]


def test_a_target_that_is_all_reasoning_is_refused(tmp_path: Path) -> None:
    for target, why in (("<think>Hm", "is reasoning that never ends"), ("<think>7</think>", "empty but for its")):
        with pytest.raises(SuiteError, match=f"a.jsonl:1: the target {why}|the target is {why}"):
            suite_from_data(data(tmp_path / "a.jsonl", pair("Q?", target)))


def test_groups_fields_and_names_by_flags(tmp_path: Path) -> None:
    path = data(
        tmp_path / "lab" / "valid.jsonl", {"q": "Q?", "a": "A", "kind": "old"}, {"q": "R?", "a": "B", "kind": 2}
    )
    suite = suite_from_data(path, prompt_field="q", target_field="a", group_field="kind", max_tokens=9, name="mine")
    assert asked(suite.samples) == [("Q?", "A"), ("R?", "B")]
    assert (suite.groups, suite.name, suite.options.max_tokens) == (("old", "2"), "mine", 9)
    assert suite_from_data(path, prompt_field="q", target_field="a").name == "lab-valid"


def test_a_folder_of_training_data_means_what_was_held_out(tmp_path: Path) -> None:
    data(tmp_path / "lab" / "train.jsonl", pair("T?", "A"))
    with pytest.raises(SuiteError, match=r"neither test.jsonl nor valid.jsonl is in this folder; name the file"):
        suite_from_data(tmp_path / "lab")
    data(tmp_path / "lab" / "valid.jsonl", pair("V?", "A"))
    assert suite_from_data(tmp_path / "lab").samples[0].prompt == "V?"
    data(tmp_path / "lab" / "test.jsonl", pair("E?", "A"))
    assert suite_from_data(tmp_path / "lab").samples[0].prompt == "E?"


def test_ids_belong_to_the_content(tmp_path: Path) -> None:
    one, two = pair("Q?", "A"), pair("Q?", "B")
    first = suite_from_data(data(tmp_path / "a.jsonl", one, two, one, {**two, "id": "mine"}))
    ids = [sample.id for sample in first.samples]
    assert ids[2] == f"{ids[0]}-2"
    assert ids[3] == "mine"
    assert len(set(ids)) == 4
    second = suite_from_data(data(tmp_path / "b.jsonl", pair("New?", "N"), two, one))
    assert [sample.id for sample in second.samples][1:] == [ids[1], ids[0]]
    with pytest.raises(SuiteError, match=r"c.jsonl:2: the id 'x' is already that of another question"):
        suite_from_data(data(tmp_path / "c.jsonl", {**one, "id": "x"}, {**two, "id": "x"}))


def test_a_draw_is_repeatable_and_nested(tmp_path: Path) -> None:
    records = [pair(f"Question {n}?", str(n)) for n in range(200)]
    path, turned = data(tmp_path / "a.jsonl", *records), data(tmp_path / "b.jsonl", *reversed(records))

    def drawn(path: Path, limit: int, seed: int = 0) -> list[str]:
        return [sample.id for sample in suite_from_data(path, limit=limit, seed=seed).samples]

    assert len(drawn(path, 20)) == 20
    assert drawn(path, 20) == drawn(path, 20)
    assert set(drawn(path, 20)) < set(drawn(path, 50))
    assert drawn(turned, 20) == list(reversed(drawn(path, 20)))
    assert set(drawn(path, 20, seed=1)) != set(drawn(path, 20))
    assert drawn(path, 500) == [sample.id for sample in suite_from_data(path).samples]
    lines = [place.line or 0 for place in suite_from_data(path, limit=20).places.values()]
    assert lines == sorted(lines)
    assert max(lines) > 100, "a draw is no head of the file"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "not valid JSON"),
        ("[1]", "not a JSON object but a list"),
        ({"instruction": "Q?"}, "instruction and output, chosen and rejected; the line has: instruction"),
        ({"prompt": "Q?"}, "none of messages, prompt and completion, text, conversations"),
        ({"conversations": []}, "conversations must be a list with a question and the assistant's answer"),
        ({"conversations": {}}, "conversations must be a list of turns, not a mapping"),
        ({"conversations": ["Q?", "A"]}, "a turn must be {from: …, value: …}, not the text 'Q?'"),
        ({"conversations": [{"from": "alien", "value": "Q?"}]}, "unknown speaker 'alien' of a turn; known: human"),
        (
            {"conversations": [{"from": "human", "value": "Q?"}, {"from": "function_call", "value": "{}"}]},
            "a turn calls tools, which can't be asked again",
        ),
        ({"instruction": 7, "output": "A"}, "instruction must be text, not the number 7"),
        ({"instruction": "", "output": "A", "system": "Be brief."}, "the prompt is empty"),
        ({"instruction": "Q?", "output": "A", "history": ["Hi"]}, "history must be a list of [question, answer]"),
        ({"prompt": "Q?", "chosen": [], "rejected": "B"}, "chosen must be text, or a list of one message"),
        ({"chosen": "A", "rejected": "B"}, "chosen must be a list with a question and the assistant's answer"),
        ({**pair("<image>Q?", "A"), "images": ["a.png"]}, "the line has images, which can't be asked"),
        (
            pair([{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "Q?"}]}], "A"),
            "a message holds more than text (image_url), which can't be asked; leave such lines out",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "Q?"},
                    {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
                    {"role": "tool", "content": "7"},
                    {"role": "assistant", "content": "A"},
                ]
            },
            "a turn calls tools, which can't be asked again; leave such lines out",
        ),
        ({"text": "Q? A"}, "name the marker after which the answer begins (split)"),
        (pair("Q?", ""), "the target is empty"),
        (pair("", "A"), "the prompt is empty"),
        (pair("Q?", None), "completion must be text, or a list of one message, not null"),
        (pair(7, "A"), "prompt must be text or a list of messages, not the number 7"),
        (turns("Q?"), "messages must be a list with a question and the assistant's answer"),
        (turns("Q?", "A", "R?"), "the last message must be the assistant's"),
        (turns("Q?", " "), "the assistant's last message is empty"),
        (
            {"messages": [{"role": "robot", "content": ""}, {"role": "assistant", "content": "A"}]},
            "unknown role 'robot'",
        ),
        (
            {"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "tool_calls": [{"id": 1}]}]},
            "the assistant's last message is empty but for tool calls",
        ),
    ],
)
def test_a_mistake_names_its_line_even_if_it_is_not_drawn(tmp_path: Path, line: Any, sentence: str) -> None:
    path = data(tmp_path / "a.jsonl", pair("Q?", "A"), "", line)
    with pytest.raises(SuiteError) as caught:
        suite_from_data(path, limit=1)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"limit": 0}, "a limit must be at least 1 sample"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
        ({"split": ""}, "a marker must not be empty"),
        ({"scorer": "contains_wrd"}, "did you mean 'contains_word'?"),
        ({"parameters": {"tolerance": 1}}, "parameters need its name"),
        ({"group_field": "knd"}, "a.jsonl:1: no 'knd', which is to hold the group; did you mean 'kind'?"),
        ({"group_field": "list"}, "a.jsonl:1: the group 'list' must be text or a whole number, not a list"),
        ({"prompt_field": "promt"}, "a.jsonl:1: no 'promt'; did you mean 'prompt'?"),
    ],
)
def test_a_flag_that_does_not_fit_is_told_of(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    path = data(tmp_path / "a.jsonl", pair("Q?", "A", kind="k", list=[]))
    with pytest.raises(BadInput) as caught:
        suite_from_data(path, **options)
    assert sentence in str(caught.value)


def test_a_text_without_the_marker_and_files_without_lines(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"a.jsonl:1: the marker '###' is not in this text"):
        suite_from_data(data(tmp_path / "a.jsonl", {"text": "Q? A"}), split="###")
    with pytest.raises(SuiteError, match=r"b.jsonl: there are no questions in it"):
        suite_from_data(data(tmp_path / "b.jsonl", " "))
    with pytest.raises(SuiteError, match=r"c.jsonl: there is no such file"):
        suite_from_data(tmp_path / "c.jsonl")


async def test_a_model_answers_such_a_suite(tmp_path: Path) -> None:
    path = data(tmp_path / "a.jsonl", pair("Capital?", "Pyrus"), turns("2 + 2?", "4"), pair("Else?", "no"))
    script = tmp_path / "script.yaml"
    script.write_text(
        "answers:\n  - {prompt: Capital?, answer: It is Pyrus.}\n  - {prompt: 2 + 2?, answer: 2 + 2 = 4}\ndefault: hm\n"
    )
    model = await open_model(f"scripted:{script}")
    done = await evaluate(model, suite_from_data(path))
    await model.aclose()
    assert [result.scores[0].value for result in done.results] == [True, True, False]


def test_data_whose_loss_is_asked_for_stands_as_it_is(tmp_path: Path) -> None:
    path = data(
        tmp_path / "held.jsonl",
        turns("Hi", "Hello", "Capital?", " <think>Hm.</think> Pyrus\n"),
        pair("2 + 2?", "Two and two.\n#### 4"),
        {"text": "A whole text.</s>"},
        {"instruction": "Add", "input": "1 and 2", "output": "3"},
        {"prompt": "Q?", "chosen": "yes", "rejected": "no"},
        pair("Unwanted?", "Yes.", label=False),
        {"text": "A whole text.</s>"},
    )
    suite = suite_from_data(f"perplexity:{path}")
    assert suite.name == "held-loss"
    assert asked(suite.samples) == [
        (
            (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Capital?")),
            " <think>Hm.</think> Pyrus\n",
        ),
        ("2 + 2?", "Two and two.\n#### 4"),
        (Raw(""), "A whole text.</s>"),
        ("Add\n1 and 2", "3"),
        ("Q?", "yes"),
        (Raw(""), "A whole text.</s>"),
    ]
    assert all(type(sample.prompt) is Raw for sample in suite.samples if not sample.prompt)
    assert {spec.name for spec in suite.scorers.values()} == {"perplexity"}
    assert suite_from_data(path, scorer="perplexity") == suite
    check_suite(suite)


def test_a_text_that_is_split_is_weighed_after_what_is_before_the_marker(tmp_path: Path) -> None:
    path = data(tmp_path / "held.jsonl", {"text": "### Q: Who?\n### A: Nobody"})
    assert asked(suite_from_data(f"perplexity:{path}", split="### A:").samples) == [
        (Raw("### Q: Who?\n### A:"), " Nobody")
    ]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"text": ""}, "there is no text to take the loss of"),
        ({"text": 7}, "text must be text, not the number 7"),
        ({"txt": "x"}, "none of messages, prompt and completion, text"),
        (turns("Only a question"), "messages must be a list with a question and the assistant's answer"),
        ("{", "not valid JSON"),
    ],
)
def test_a_line_without_a_text_is_named(tmp_path: Path, record: Any, said: str) -> None:
    path = data(tmp_path / "held.jsonl", {"text": "fine"}, record)
    with pytest.raises(SuiteError, match=f"held.jsonl:2: .*{said}"):
        suite_from_data(f"perplexity:{path}")


def test_a_loss_takes_no_other_scorer_and_no_cut_target(tmp_path: Path) -> None:
    path = data(tmp_path / "held.jsonl", {"text": "fine"})
    with pytest.raises(BadInput, match="says its scorer itself"):
        suite_from_data(f"perplexity:{path}", scorer="contains_word")
    with pytest.raises(BadInput, match="a loss is of the whole target"):
        suite_from_data(f"perplexity:{path}", target_after="####")
    with pytest.raises(SuiteError, match="there is no such file"):
        suite_from_data("perplexity:missing.jsonl")
