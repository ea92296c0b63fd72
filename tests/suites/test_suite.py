"""Suite files: what they mean, and that each mistake is named by its file, its line and the nearest right word."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import BadInput, SuiteError
from assay.scorers.base import check_suite
from assay.suites.suite import ScorerSpec, Suite, load_suite
from assay.types import GenerateOptions, Goal, Message, Raw, Sample
from tests.making import written

LAB = """\
name: lab
version: 1
options: {temperature: 0, max_tokens: 24, stop: ["\\n"]}
scorer: contains_word
goal: {improve: [new], keep: [sums], tolerance: 0.1}
samples:
  - {id: a, group: new, prompt: What is the capital of Genovia?, target: Pyrus, metadata: {source: atlas}}
  - {id: b, group: sums, messages: [{role: user, content: What is 3 + 4?}], target: 7, scorer: final_number}
  - id: c
    raw: "Q: Norway\\nA:"
    target: no
    reference: {also: [nei]}
    scorer: {name: final_number, tolerance: 0.5}
"""
HEAD = "name: s\nversion: 1\nscorer: contains_word\n"


def write(folder: Path, text: str, name: str = "suite.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_in_a_suite_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, LAB)
    suite = load_suite(path)
    assert (suite.name, suite.version, suite.path) == ("lab", 1, path)
    assert suite.options == GenerateOptions(temperature=0.0, max_tokens=24, stop=("\n",))
    assert suite.goal == Goal(improve=("new",), keep=("sums",), tolerance=0.1)
    assert suite.groups == ("new", "sums", "all")
    a, b, c = suite.samples
    assert a == Sample("a", "What is the capital of Genovia?", "new", {"target": "Pyrus"}, {"source": "atlas"})
    assert b.prompt == (Message("user", "What is 3 + 4?"),)
    assert b.reference == {"target": "7"}
    assert isinstance(c.prompt, Raw)
    assert c.prompt == "Q: Norway\nA:"
    assert load_suite(write(tmp_path, LAB.replace("target: Pyrus", "target: [Pyrus, 7]"))).samples[0].reference == {
        "target": ["Pyrus", "7"]
    }
    assert c.reference == {"target": "no", "also": ["nei"]}  # YAML 1.2: `no` is text
    assert suite.scorers == {
        "a": ScorerSpec("contains_word"),
        "b": ScorerSpec("final_number"),
        "c": ScorerSpec("final_number", {"tolerance": 0.5}),
    }
    assert [suite.places[s].line for s in "abc"] == [7, 8, 9]
    assert pickle.loads(pickle.dumps(suite)) == suite


def test_samples_from_files_give_the_same_suite(tmp_path: Path) -> None:
    inline = load_suite(write(tmp_path, HEAD + "samples:\n  - {id: a, prompt: Hi, target: 7}\n", "one.yaml"))
    write(tmp_path, '{"id": "a", "prompt": "Hi", "target": 7, "group": null}\n', "facts.jsonl")
    beside = load_suite(write(tmp_path, HEAD + "samples: facts.jsonl\n", "two.yaml"))
    assert beside.samples == inline.samples
    assert beside.digest == inline.digest
    assert beside.places["a"].path == tmp_path / "facts.jsonl"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: lab", "name: lib"),
        ("version: 1", "version: 2"),
        ("max_tokens: 24", "max_tokens: 25"),
        ("scorer: contains_word", "scorer: {name: contains_word, case_sensitive: true}"),
        ("target: Pyrus", "target: Zenda"),
        ("raw: ", "prompt: "),
        ("also: [nei]", "also: [nej]"),
        ("group: new,", "group: sums,"),
        ("tolerance: 0.5", "tolerance: 0.6"),
    ],
)
def test_the_digest_covers_what_is_asked_and_how_it_is_scored(tmp_path: Path, old: str, new: str) -> None:
    text = LAB.replace("goal: {improve: [new], keep: [sums], tolerance: 0.1}", "# no goal")
    before = load_suite(write(tmp_path, text)).digest
    assert load_suite(write(tmp_path, text.replace(old, new))).digest != before


def test_the_digest_leaves_out_the_goal_and_how_the_file_is_written(tmp_path: Path) -> None:
    digest = load_suite(write(tmp_path, LAB)).digest
    assert load_suite(write(tmp_path, LAB.replace("tolerance: 0.1", "tolerance: 0.2"))).digest == digest
    assert load_suite(write(tmp_path, "# a comment\n" + LAB.replace("target: 7", 'target: "7"'))).digest == digest
    assert load_suite(write(tmp_path, LAB.replace("temperature: 0,", "temperature: 0.0,"))).digest == digest
    assert len(digest) == 64


SAMPLE = "  - {id: a, prompt: Hi, target: x}\n"
MISTAKES = {
    "not YAML": ("name: [a\nversion: 1\n", 2, "not valid YAML"),
    "two documents": ("name: s\n---\nname: t\n", 2, "not valid YAML"),
    "control character": ("name: s\nversion: \x01\n", 2, "control character"),
    "duplicate key": (HEAD + "name: t\nsamples: []\n", 4, "the key 'name' stands here and in line 1"),
    "key that is no text": (HEAD + "7: x\nsamples: []\n", 4, "a key must be text"),
    "merge key": (HEAD + "<<: {a: 1}\nsamples: []\n", 4, "unknown key '<<'"),
    "tag": (HEAD + "samples: !!python/object/apply:os.getcwd []\n", 4, "is not allowed"),
    "unknown suite key": (HEAD + "sampels: []\n", 4, "unknown key 'sampels' in a suite; did you mean 'samples'?"),
    "missing key": ("name: s\nversion: 1\n", 1, "a suite needs the key 'samples'"),
    "not a mapping": ("- a\n", 1, "a suite must be a mapping of keys to values, not a list"),
    "name with a line break": ('name: "a\\nb"\nversion: 1\nsamples:\n' + SAMPLE, 1, "name must be one line"),
    "name that is a number": ("name: 7\nversion: 1\nsamples:\n" + SAMPLE, 1, "name must be text, not the number 7"),
    "version": ("name: s\nversion: 1.0\nsamples:\n" + SAMPLE, 2, "version must be a whole number of at least 1"),
    "version true": ("name: s\nversion: true\nsamples:\n" + SAMPLE, 2, "not the boolean true"),
    "no samples": (HEAD + "samples: []\n", 4, "there are no samples"),
    "samples of a wrong type": (HEAD + "samples: 7\n", 4, "samples must be a list, or the name of a .jsonl"),
    "no sample file": (HEAD + "samples: facts.jsonl\n", 4, "there is no sample file"),
    "sample file of another kind": (HEAD + "samples: facts.csv\n", 4, "known endings: .jsonl, .ndjson, .parquet"),
    "unknown sample key": (
        HEAD + "samples:\n  - id: a\n    prompt: Hi\n    tarjet: x\n",
        7,
        "unknown key 'tarjet' in a sample; did you mean 'target'?",
    ),
    "no id": (HEAD + "samples:\n  - {prompt: Hi}\n", 5, "a sample needs the key 'id'"),
    "duplicate id": (HEAD + "samples:\n" + SAMPLE + SAMPLE, 6, "the id 'a' is already that of the sample in line 5"),
    "target with a fraction": (
        HEAD + "samples:\n  - {id: a, prompt: Hi, target: 7.0}\n",
        5,
        "target must be text, not the number 7.0; write it in quotes",
    ),
    "target that is a boolean": (HEAD + "samples:\n  - {id: a, prompt: Hi, target: True}\n", 5, "the boolean True"),
    "target list without targets": (
        HEAD + "samples:\n  - {id: a, prompt: Hi, target: []}\n",
        5,
        "not be an empty list",
    ),
    "target list in a list": (
        HEAD + "samples:\n  - {id: a, prompt: Hi, target: [[x]]}\n",
        5,
        "must be text, not a list",
    ),
    "target with zeros": (HEAD + "samples:\n  - {id: a, prompt: Hi, target: 007}\n", 5, "not the number 007"),
    "target left empty": (HEAD + "samples:\n  - {id: a, prompt: Hi, target: }\n", 5, "not nothing"),
    "target inside reference": (
        HEAD + "samples:\n  - {id: a, prompt: Hi, reference: {target: x}}\n",
        5,
        "belongs beside reference:",
    ),
    "prompt of a wrong type": (HEAD + "samples:\n  - {id: a, prompt: 7}\n", 5, "prompt must be text, not the number 7"),
    "empty prompt": (HEAD + "samples:\n  - {id: a, prompt: ' '}\n", 5, "prompt must not be empty"),
    "no prompt": (HEAD + "samples:\n  - {id: a}\n", 5, "exactly one of prompt, messages, raw and text; it has none"),
    "prompt and messages": (
        HEAD + "samples:\n  - {id: a, prompt: Hi, messages: []}\n",
        5,
        "exactly one of prompt, messages, raw and text; it has prompt and messages",
    ),
    "no messages": (HEAD + "samples:\n  - {id: a, messages: []}\n", 5, "at least one message"),
    "unknown role": (
        HEAD + "samples:\n  - id: a\n    messages:\n      - {role: usr, content: Hi}\n",
        7,
        "unknown role 'usr'; did you mean 'user'?",
    ),
    "unknown message key": (
        HEAD + "samples:\n  - id: a\n    messages:\n      - {role: user, contents: Hi}\n",
        7,
        "unknown key 'contents' in a message; did you mean 'content'?",
    ),
    "content": (HEAD + "samples:\n  - {id: a, messages: [{role: user, content: 7}]}\n", 5, "content must be text"),
    "unknown scorer": (
        "name: s\nversion: 1\nscorer: contain_word\nsamples:\n" + SAMPLE,
        3,
        "unknown scorer 'contain_word'; did you mean 'contains_word'?",
    ),
    "unknown scorer of a sample": (
        HEAD + "samples:\n  - id: a\n    prompt: Hi\n    scorer:\n      name: final_numbr\n",
        8,
        "did you mean 'final_number'?",
    ),
    "scorer without a name": (
        "name: s\nversion: 1\nscorer: {tolerance: 1}\nsamples:\n" + SAMPLE,
        3,
        "a scorer needs the key 'name'",
    ),
    "no scorer": ("name: s\nversion: 1\nsamples:\n" + SAMPLE, 4, "the sample 'a' has no scorer"),
    "a rubric": ("name: s\nversion: 1\ndimensions: {}\n", 3, "this is a rubric, which asks nothing"),
    "rubrics of a wrong type": (HEAD + "rubrics: content\nsamples:\n" + SAMPLE, 4, "rubrics must be a list of names"),
    "goal where only a judge can tell": (
        "name: s\nversion: 1\nrubrics: [content]\ngoal: {keep: [all]}\nsamples:\n" + SAMPLE,
        4,
        "a goal needs a scorer",
    ),
    "goal with an unknown group": (
        HEAD + "goal:\n  improve: [new]\n  keep:\n    - olt\nsamples:\n"
        "  - {id: a, group: old, prompt: Hi}\n  - {id: b, group: new, prompt: Hi}\n",
        7,
        "no sample is of the group 'olt'; did you mean 'old'?",
    ),
    "goal of a wrong type": (HEAD + "goal: {improve: all}\nsamples:\n" + SAMPLE, 4, "improve must be a list of groups"),
    "goal without groups": (HEAD + "goal: {tolerance: 0}\nsamples:\n" + SAMPLE, 4, "at least one group"),
    "goal naming a group twice": (HEAD + "goal: {keep: [all, all]}\nsamples:\n" + SAMPLE, 4, "named twice in keep"),
    "unknown goal key": (HEAD + "goal: {kep: [all]}\nsamples:\n" + SAMPLE, 4, "did you mean 'keep'?"),
    "tolerance": (
        HEAD + "goal:\n  keep: [all]\n  tolerance: 1.5\nsamples:\n" + SAMPLE,
        6,
        "tolerance must be a number from 0 to 1, not the number 1.5",
    ),
    "unknown option": (
        HEAD + "options:\n  max_token: 5\nsamples:\n" + SAMPLE,
        5,
        "unknown key 'max_token' in options; did you mean 'max_tokens'?",
    ),
    "temperature": (HEAD + "options: {temperature: -1}\nsamples:\n" + SAMPLE, 4, "temperature must be a number of at"),
    "temperature nan": (HEAD + "options: {temperature: .nan}\nsamples:\n" + SAMPLE, 4, "not a finite number"),
    "max_tokens": (HEAD + "options: {max_tokens: 0}\nsamples:\n" + SAMPLE, 4, "max_tokens must be a whole number of"),
    "max_tokens with a fraction": (HEAD + "options: {max_tokens: 5.0}\nsamples:\n" + SAMPLE, 4, "not the number 5.0"),
    "top_p zero": (
        HEAD + "options: {top_p: 0}\nsamples:\n" + SAMPLE,
        4,
        "top_p must be a number above 0, of at most 1",
    ),
    "top_p above one": (HEAD + "options: {top_p: 1.1}\nsamples:\n" + SAMPLE, 4, "not the number 1.1"),
    "huge number": (HEAD + f"options: {{top_k: 1{'0' * 400}}}\nsamples:\n" + SAMPLE, 4, "top_k must be a whole number"),
    "stop": (HEAD + "options: {stop: [7]}\nsamples:\n" + SAMPLE, 4, "stop must be text that is not empty"),
    "recursive alias": (HEAD + "samples: &a [*a]\n", None, "nested too deeply"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, case: str) -> None:
    text, line, sentence = MISTAKES[case]
    path = write(tmp_path, text)
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    where = f"{path}:{line}: " if line is not None else f"{path}: "
    assert str(caught.value).startswith(where)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_duplicate_id_in_a_sample_file_names_both_lines(tmp_path: Path) -> None:
    write(tmp_path, '{"id": 1, "prompt": "Hi"}\n\n{"id": "1", "prompt": "Ho"}\n', "facts.jsonl")
    with pytest.raises(SuiteError) as caught:
        load_suite(write(tmp_path, HEAD + "samples: facts.jsonl\n"))
    assert str(caught.value) == f"{tmp_path / 'facts.jsonl'}:3: the id '1' is already that of the sample in line 1"


def test_many_aliases_cannot_fill_the_memory(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(SuiteError, match="once its aliases are followed"):
        load_suite(write(tmp_path, "\n".join(lines)))


def test_a_missing_file_an_empty_one_and_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"lab\.yaml: there is no such file"):
        load_suite(tmp_path / "lab.yaml")
    with pytest.raises(SuiteError, match="the file is empty"):
        load_suite(write(tmp_path, "# nothing\n"))
    with pytest.raises(SuiteError, match="cannot be read"):
        load_suite(str(tmp_path))
    with pytest.raises(SuiteError, match="there is no suite 'no-such-suite', neither a file nor a built-in one"):
        load_suite("no-such-suite")


def test_a_file_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"name: s\nversion: 1\nscorer: caf\xe9\n")
    with pytest.raises(SuiteError, match=r"latin\.yaml:3: not UTF-8 text"):
        load_suite(path)


def suite_of(groups: list[str]) -> Suite:
    samples = tuple(Sample(str(n), "Hi", group) for n, group in enumerate(groups))
    return Suite("s", 1, samples, {s.id: ScorerSpec("contains_word") for s in samples})


def test_a_limit_takes_one_of_each_group_in_turn() -> None:
    suite = suite_of(["old", "old", "old", "new", "new", "sums"])
    assert [s.id for s in suite.limited(3).samples] == ["0", "3", "5"]
    assert [s.id for s in suite.limited(4).samples] == ["0", "1", "3", "5"]
    assert suite.limited(6) is suite
    assert suite.limited(3).digest != suite.digest
    with pytest.raises(BadInput, match="at least 1"):
        suite.limited(0)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=30), st.integers(1, 30), st.integers(1, 30))
def test_limits_nest_spread_and_keep_the_order(groups: list[str], one: int, other: int) -> None:
    suite = suite_of(groups)
    small, large = (suite.limited(n) for n in sorted((one, other)))
    assert len(large.samples) == min(max(one, other), len(groups))
    assert {s.id for s in small.samples} <= {s.id for s in large.samples}
    assert [s.id for s in large.samples] == [s.id for s in suite.samples if s.id in large.scorers]
    counts = {g: sum(s.group == g for s in large.samples) for g in suite.groups}
    for group, count in counts.items():
        assert count == groups.count(group) or count >= max(counts.values()) - 1


def test_a_text_is_weighed_as_a_whole_and_by_no_scorer_of_answers(tmp_path: Path) -> None:
    head = "name: s\nversion: 1\nscorer: SCORER\nsamples:\n  - {id: a, text: All of it.}\n"
    suite = load_suite(written(tmp_path / "a.yaml", head.replace("SCORER", "perplexity")))
    assert (suite.samples[0].prompt, suite.samples[0].reference) == (Raw(""), {"target": "All of it."})
    check_suite(suite)
    with pytest.raises(SuiteError, match=r"b\.yaml:5: the sample 'a': it asks nothing: a text is weighed"):
        check_suite(load_suite(written(tmp_path / "b.yaml", head.replace("SCORER", "contains_word"))))
    two = head.replace("SCORER", "perplexity").replace("it.}", "it., target: x}")
    with pytest.raises(SuiteError, match=r"c\.yaml:5: a text is weighed as a whole and has no target"):
        load_suite(written(tmp_path / "c.yaml", two))
