"""Keys of work that is paid for: journals of years hold them, so their values are pinned."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from assay.results.canonical import canonical, digest_of
from assay.results.keys import completion_key, measure_of, score_key
from assay.results.records import FROM_FILES, origin_of
from assay.types import GenerateOptions

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([0.0, -0.0, 1e-4, 9.999e-5, 1e15, 1e16, 5e-324, 2**64, -(2**64)])
    | st.text(st.characters())
    | st.text(st.characters(categories=["Cs", "Cc", "Lo"]))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner)
    ),
)


@given(VALUES)
def test_canonical_json_is_what_json_writes(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    assert canonical(value) == text.encode("utf-8", "surrogatepass")


class Word(str):
    __slots__ = ()


@given(st.dictionaries(st.integers() | st.booleans(), SCALARS), st.text())
def test_what_msgspec_knows_otherwise_is_written_as_json_does(odd: dict[int, object], text: str) -> None:
    for value in (odd, [Word(text)], {"a": {Word("b"): 1}}):
        written = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        assert canonical(value) == written.encode("utf-8", "surrogatepass")


def test_keys_are_what_they_were_when_journals_were_written() -> None:
    reference = {"target": "4", "b": [1, 2.5, None, True], "ä": {"z": 1e-7, "a": 1e22}}
    judged = {"reference": {}, "prompt": ["str", "Q"]}
    warm = GenerateOptions(temperature=0.7, stop=("a",), seed=3)
    keys = {
        completion_key("id", "ad", 'Why?\n"né" 😀', warm, 1): "a09fb809",
        completion_key("id", None, "p", GenerateOptions(), 0): "1778a8b3",
        score_key(
            "It is 4.\u2028\x00\x7f", "stop", reference, "final_answer", 1, {"tolerance": 0.000001, "x": 2**70}
        ): "12147cb9",
        score_key(
            "broken \ud83d", "length", judged, "judge:semantic", 1, {"temperature": 0.0, "seed": None}, "j", 2
        ): "b6b80412",
        measure_of("judge:semantic", 1, {"votes": 3, "temperature": 0.7}, "j"): "355fa6c8",
        origin_of("m"): "6cfc3b45",
        FROM_FILES: "fd1aa572",
    }
    assert [key[:8] for key in keys] == list(keys.values())


def test_an_option_that_came_later_changes_no_key_where_it_is_neutral() -> None:
    options = GenerateOptions(max_tokens=7, stop=("x",))
    former = {"temperature": 0.0, "max_tokens": 7, "top_p": 1.0, "top_k": 0, "repeat_penalty": 1.0, "stop": ("x",)}
    former |= {"seed": None, "logprobs": False}
    assert completion_key("i", None, "p", options, 0) == digest_of("completion", 1, "i", "", "p", former, 0)
    truncating = replace(options, truncate_prompt=True)
    assert completion_key("i", None, "p", truncating, 0) != completion_key("i", None, "p", options, 0)
