"""The heuristics against values worked out by hand, against a plain transcription of their definition, and at scale."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assay.scorers import phrases
from assay.scorers.base import Scorer, score_answer
from assay.scorers.heuristic import PATTERNS, Lek, LekScorer, lek
from assay.scorers.phrase_scan import HyperscanScanner, ReScanner, make_scanner
from assay.types import Completion, FinishReason, Sample, Score, Usage

SHARED = Path(__file__).parents[3] / "shared" / "data"

DULL = "Water boils when it gets hot."  # all sub-scores are 0


def expect(text: str, **values: float) -> None:
    """Check all of the text's values: those not given are 0, and the composite follows from them."""
    wanted = {**dict.fromkeys(Lek._fields, 0), **values}
    wanted["lek_score"] = (
        2 * wanted["engagement_depth"]
        + 3 * wanted["creative_form"]
        + 2 * wanted["emotional_register"]
        + 1.5 * wanted["first_person"]
        - 5 * wanted["compliance_markers"]
        - 3 * wanted["formulaic_preamble"]
        - 4 * wanted["degeneration"]
        - 20 * wanted["empty_broken"]
    )
    assert lek(text)._asdict() == wanted
    assert lek(text.encode("utf-8", "surrogatepass")) == lek(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (DULL, {}),
        ("", {"degeneration": 10, "empty_broken": 1}),
        ("...........", {"degeneration": 10}),
        ("too short", {"empty_broken": 1}),
        ("ten bytes.", {}),
        ("nine é b", {"empty_broken": 1}),  # 8 characters, 9 bytes
        ("ERROR: **key** love", {"empty_broken": 1, "emotional_register": 1}),
        ("Error: **key** love", {"engagement_depth": 2, "emotional_register": 1}),
        ("Some text <pad> more", {"empty_broken": 1}),
        ("Some text <unused42>", {"empty_broken": 1}),
        ("As an AI language model, I can't; I cannot.", {"compliance_markers": 4}),
        ("We spoke RESPONSIBLY, irresponsibly and responsibly_so.", {"compliance_markers": 1}),
        ("Here i'm just a fool and i am just a fool.", {"compliance_markers": 2, "first_person": 1}),
        ("As an ai, as an aisle.", {"compliance_markers": 1}),
        ("We say I don't have personal views.", {"compliance_markers": 1}),
        ("We say I  cannot, I\ncannot.", {}),  # one space, or it's another phrase
        ("Okay, let's see.", {"formulaic_preamble": 1}),
        ("  okay   HERES how.", {"formulaic_preamble": 1}),
        ("Okay let us see.", {}),
        ("Okay,here's how.", {}),
        ("Okay, this is it.", {"formulaic_preamble": 1}),
        ("Sure, this is it.", {}),
        ("Alright, lets go on.", {"formulaic_preamble": 1}),
        ("Great\n\nquestions abound.", {"formulaic_preamble": 1}),
        ("I see. I run. We sit.", {"first_person": 2}),
        ("Then I think so. And I am. I was I was.", {"first_person": 3}),
        ("Here I, am. So I feelings. Now i\t\nwill go.", {"first_person": 1}),
        ("I. I . I \t. Do what?", {"degeneration": 3}),  # two of four are repeats, which is not above a half
    ],
)
def test_worked_by_hand(text: str, values: dict[str, float]) -> None:
    expect(text, **values)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Once upon a time.", {"creative_form": 1}),
        ("  it was night then.", {"creative_form": 1}),
        ("Theory is dull stuff.", {}),
        ("A light, a shadow; a whisper and a breath.", {"creative_form": 4}),
        ("Lightly, highlight, light-footed, (LIGHT)", {"creative_form": 2}),
        ("Looks like a wolf, as if it were, as though.", {"creative_form": 3}),
        ("1\n2\n3\n4\n5\n6\n7", {"creative_form": 2}),
        ("1\n2\n3\n4\n5\n6 six", {}),
        ("1\n2\n3\n4\n" + "\n".join(["x" * 60] * 4), {}),  # half of them short is not more than half
        ("1\n2\n3\n4\n5\n" + "\n".join(["x" * 60] * 4), {"creative_form": 2}),
        ("1\n2\n3\n4\n" + "\n".join(["é" * 30] * 4), {}),  # 60 bytes each
        ("1\n2\n3\n4\n" + "\n".join(["é" * 29] * 4), {"creative_form": 2}),
        ("## Heading here", {"engagement_depth": 1}),
        ("This is ** bold", {"engagement_depth": 1}),
        ("This is #* not.", {}),
        ("Dignity and consent.", {"engagement_depth": 2}),
        ("Self-Determination.", {"engagement_depth": 2}),
        ("Self determination.", {}),
        ("A p2p mesh of node and node.", {"engagement_depth": 3, "creative_form": 1}),
        ("keys, hashes, torn, p2p2", {}),
        ("word " * 200, {}),
        ("word " * 201, {"engagement_depth": 1}),
        ("word\n\t" * 401, {"engagement_depth": 2, "creative_form": 2}),
        ("feel feeling feelings felt", {"emotional_register": 3}),
        ("love " * 11, {"emotional_register": 10}),
        ("Same. Same. Same.", {"degeneration": 5}),
        ("Same. same. Other.", {}),  # "distinct" minds letter case
        ("One. Two. Two. Two. Three. Four.", {"degeneration": 3}),
        ("One. Two. Two. Three. Four. Five.", {"degeneration": 1}),
        ("One. Two. Two. Three. Four. Five. Six.", {}),
    ],
)
def test_worked_by_hand_too(text: str, values: dict[str, float]) -> None:
    expect(text, **values)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("dar\u212aness, ſpirit, \u212aey, İ am", {}),  # these fold to k, s and i; ASCII letters alone do here
        ("élove, loveé: no word characters", {"emotional_register": 2}),
        ("\u3000I\u3000see. \u00a0I see. I see.\u2028", {"first_person": 2, "degeneration": 3}),
        ("\u00a0Once upon a time.\u00a0", {"creative_form": 1}),
        ("\u00a0Okay, let's see.", {"formulaic_preamble": 1}),
        ("I \u00a0. We sit here. I \u3000see.", {"first_person": 1}),
        ("word\u3000" * 201, {"engagement_depth": 1}),
        ("\x1fOnce upon a time.", {}),  # a separator to Python, white space to nobody else
        ("no\x00love\x00here at all", {"emotional_register": 1}),
        ("lone \ud800 love \udfff here", {"emotional_register": 1}),
        ("I see.\r\nI see.\r\nYou run.\r\n", {"first_person": 2, "degeneration": 3}),
    ],
)
def test_beyond_ascii(text: str, values: dict[str, float]) -> None:
    expect(text, **values)


def test_broken_bytes_are_no_fault() -> None:
    assert lek(b"\xff love \xc2").emotional_register == 1
    assert lek(b"\xc2\xa0Once \xff upon.\xe2\x80").creative_form == 1


@pytest.mark.parametrize("group", [n for n in dir(phrases) if n.isupper() and n not in ("PREAMBLES", "OPENINGS")])
def test_the_phrases_suit_both_scanners(group: str) -> None:
    words: tuple[str, ...] = getattr(phrases, group)
    assert len(set(words)) == len(words)
    for one in words:
        assert one == one.lower().strip()
        assert one.isascii()
        for other in words:
            inside = re.search(rf"\b{re.escape(one)}\b", other)
            assert one == other or not inside, f"{one!r} is a part of {other!r}"
            pieces = re.findall(r"\w+", one), re.findall(r"\w+", other)
            assert one == other or pieces[0][-1] != pieces[1][0] or len(pieces[0]) == len(pieces[1]) == 1


# Text made of what matters here, so that matches, near misses and overlaps are common.
PIECES = [
    *(p for group in (phrases.COMPLIANCE, phrases.IMAGERY, phrases.ETHICS, phrases.TECHNOLOGY) for p in group),
    *phrases.EMOTION,
    *phrases.FILLERS,
    *(
        "I",
        "i",
        "am",
        "will",
        "think",
        "Okay,",
        "let's",
        "great",
        "question",
        "The",
        "A",
        "it was",
        "ERROR",
        "##",
        "**",
    ),
    *(" ", " ", "  ", "\n", "\r\n", "\t", "\v", ".", ".", "..", ",", "_", "-", "'", "’", "é", "\x00", "\x1c", "\ud800"),
    *(
        "\u00a0",
        "\u3000",
        "\u2028",
        "\u0085",
        "\u200b",
        "\u212a",
        "ſ",
        "İ",
        "ı",
        "s",
        "x" * 60,
        "1\n2\n3\n4\n5\n6\n7\n",
    ),
]
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=40).map("".join)
cased = texts | texts.map(str.upper) | texts.map(str.title)


def transcribed(text: str) -> Lek:
    """The definition once more, line by line and with no thought for speed."""
    white = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
    flags = re.IGNORECASE | re.ASCII

    def count(words: Sequence[str]) -> int:
        return sum(len(re.findall(rf"(?<![A-Za-z0-9_]){re.escape(w)}(?![A-Za-z0-9_])", text, flags)) for w in words)

    body, error = text.strip(white), text.startswith("ERROR")
    sentences = [s.strip(white) for s in text.split(".") if s.strip(white)]
    verbs = "am was feel think know understand believe notice want need chose will".replace(" ", "|")
    speaking = [s for s in sentences if re.search(rf"\AI\s|\bI\s+({verbs})\b", s, flags)]
    okay = r"okay,?\s+(let's|lets|here's|heres|this is)|(alright|sure),?\s+(let's|lets|here's|heres)|great\s+question"
    preamble = int(bool(re.match(okay, body, flags)))
    lengths = [len(line.encode("utf-8", "surrogatepass")) for line in text.split("\n")]
    verse = len(lengths) > 6 and sum(n < 60 for n in lengths) > len(lengths) / 2
    opening = re.match(r"(The|A|In the|Once|She|He|They|It was) ", body, flags)
    creative = 2 * verse + bool(opening) + min(3, count(phrases.IMAGERY))
    depth = 0
    if text and not error:
        words = [w for w in re.split(f"[{white}]", text) if w]
        depth = ("##" in text or "**" in text) + 2 * (count(phrases.ETHICS) > 0) + min(3, count(phrases.TECHNOLOGY))
        depth += (len(words) > 200) + (len(words) > 400)
    repeats = 1 - len(set(sentences)) / len(sentences) if sentences else math.inf
    degeneration = next(value for over, value in ((1, 10), (0.5, 5), (0.3, 3), (0.15, 1), (-1, 0)) if repeats > over)
    short = len(text.encode("utf-8", "surrogatepass")) < 10
    broken = int(short or error or bool(re.search("<pad>|<unused", text, flags)))
    emotion, compliance = min(10, count(phrases.EMOTION)), count(phrases.COMPLIANCE)
    score = 2 * depth + 3 * creative + 2 * emotion + 1.5 * len(speaking)
    score -= 5 * compliance + 3 * preamble + 4 * degeneration + 20 * broken
    return Lek(compliance, preamble, len(speaking), creative, depth, emotion, degeneration, broken, score)


@given(cased)
@example("I\u00a0am. I am")
@example("I .\u00a0I am")
@example("\u2028I see")
@example("<PAD> and ten more")
def test_it_is_its_definition(text: str) -> None:
    assert lek(text) == transcribed(text)


@given(cased)
def test_both_scanners_find_the_same(text: str) -> None:
    pytest.importorskip("hyperscan", reason="hyperscan has no wheel here, so there is but one scanner")
    data = text.encode("utf-8", "surrogatepass")
    fast, slow = _both()
    assert sorted(fast(data)) == sorted(slow(data))


@given(st.binary(max_size=60))
def test_both_scanners_find_the_same_in_any_bytes(data: bytes) -> None:
    pytest.importorskip("hyperscan", reason="hyperscan has no wheel here, so there is but one scanner")
    fast, slow = _both()
    assert sorted(fast(data)) == sorted(slow(data))


_SCANNERS: list[HyperscanScanner | ReScanner] = []


def _both() -> Sequence[HyperscanScanner | ReScanner]:
    if not _SCANNERS:
        _SCANNERS.extend((HyperscanScanner(PATTERNS), ReScanner(PATTERNS)))
    return _SCANNERS


def test_threads_do_not_disturb_one_another() -> None:
    batch = [f"I am {'love ' * (i % 12)} number {i}. A light." for i in range(200)]
    alone = [lek(text) for text in batch]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert list(pool.map(lek, batch)) == alone


def test_a_long_text_takes_no_time() -> None:
    for text in (
        "I " * 200_000,
        "." * 400_000,
        " " * 400_000,
        ".  I" * 100_000,
        "\u3000I." * 100_000,
        "great" + " " * 400_000,
    ):
        lek(text)  # with a square in it, each would take minutes


def without_hyperscan(batch: Sequence[str], folder: Path) -> list[Lek]:
    """The scores as a Python gives them in which hyperscan is not installed."""
    code = """
import sys
sys.modules["hyperscan"] = None  # importing it fails from here on
import json
from assay.scorers.heuristic import lek, scanner
assert type(scanner()).__name__ == "ReScanner"
print(json.dumps([lek(text) for text in json.load(open(sys.argv[1], encoding="utf-8"))]))
"""
    file = folder / "texts.json"
    file.write_text(json.dumps(batch), encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    return [Lek(*values) for values in json.loads(done.stdout)]


def test_without_hyperscan_nothing_changes(tmp_path: Path) -> None:
    batch = [DULL, "I am. I see. As an AI", "A light\u00a0in the darkness. <pad>", "love " * 12, "p2p dignity" * 3]
    assert without_hyperscan(batch, tmp_path) == [lek(text) for text in batch]


@given(cased)
async def test_scores_lie_within_finite_bounds(text: str) -> None:
    finish: FinishReason = "length" if text.strip() else "stop"  # one that was cut off before it began has no score
    results = await score_answer(LekScorer(), Sample("a", "?"), Completion(text, finish, Usage(1, 1)))
    assert [result.metric for result in results] == list(Lek._fields)
    for result, value in zip(results, lek(text), strict=True):
        assert isinstance(result, Score), result
        assert result.value == value
        assert math.isfinite(result.low)
        assert math.isfinite(result.high)


def test_the_scorer_is_one() -> None:
    assert isinstance(LekScorer(), Scorer)
    assert (LekScorer().name, LekScorer().version, LekScorer().metrics) == ("lek", 1, Lek._fields)


@pytest.fixture(scope="module")
def answers() -> list[tuple[str, Lek]]:
    if not SHARED.is_dir():
        pytest.skip(f"the reference answers in {SHARED} are absent")
    with (SHARED / "responses.jsonl").open(encoding="utf-8") as file:
        given_ = [json.loads(line)["response"] for line in file]
    with (SHARED / "lek_expected.jsonl").open(encoding="utf-8") as file:
        expected = [Lek(**json.loads(line)["heuristic"]) for line in file]
    return list(zip(given_, expected, strict=True))


def test_600_reference_answers(answers: list[tuple[str, Lek]]) -> None:
    assert len(answers) == 600
    assert [text for text, expected in answers if lek(text) != expected] == []


def test_600_reference_answers_without_hyperscan(answers: list[tuple[str, Lek]], tmp_path: Path) -> None:
    assert without_hyperscan([text for text, _ in answers], tmp_path) == [expected for _, expected in answers]


def test_the_fast_scanner_is_used_where_it_can_be() -> None:
    pytest.importorskip("hyperscan", reason="hyperscan has no wheel here")
    assert isinstance(make_scanner(PATTERNS), HyperscanScanner)
