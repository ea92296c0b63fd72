"""What is measured of a judge, against slow and plain computations of the same, and whole trials with scripted judges."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import correlation, fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.errors import SuiteError
from assay.models.open import open_model
from assay.scorers.estimate import Estimate
from assay.scorers.judge_check import agreement, length_bias, padded, padding_effect
from assay.scorers.judge_labels import Labelled, builtin_labels, load_labels
from assay.scorers.judge_pairs import pair_messages
from assay.scorers.judge_trial import try_judge
from assay.scorers.rubric_file import load_rubric
from assay.types import Sample
from tests.making import written

RUBRIC = load_rubric("capability")


def plain_ranks(values: Sequence[float]) -> list[float]:
    return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]


def plain_kendall(x: Sequence[float], y: Sequence[float]) -> float:
    def sign(a: float, b: float) -> int:
        return (a > b) - (a < b)

    signs = [(sign(x[i], x[j]), sign(y[i], y[j])) for i, j in combinations(range(len(x)), 2)]
    both = sum(a * b for a, b in signs)
    return both / math.sqrt(sum(a != 0 for a, _ in signs) * sum(b != 0 for _, b in signs))


def plain_kappa(x: Sequence[int], y: Sequence[int]) -> float:
    """The textbook's way: weights times observed over weights times expected, category by category."""
    n = len(x)
    seen = sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / n
    expected = sum((a - b) ** 2 * x.count(a) * y.count(b) for a in range(11) for b in range(11)) / n**2
    return 1 - seen / expected


pairs = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=2, max_size=25)


@settings(max_examples=30, deadline=None)
@given(pairs.filter(lambda p: len({a for a, _ in p}) > 1 and len({b for _, b in p}) > 1))
def test_agreement_is_what_the_definitions_say(both: list[tuple[int, int]]) -> None:
    x, y = [a for a, _ in both], [b for _, b in both]
    found = agreement(x, y)
    assert found.n == len(both)
    assert found.exact.value == pytest.approx(fmean(a == b for a, b in both))
    assert found.within_one.value == pytest.approx(fmean(abs(a - b) <= 1 for a, b in both))
    assert found.spearman.value == pytest.approx(correlation(plain_ranks(x), plain_ranks(y)))
    assert found.kendall.value == pytest.approx(plain_kendall(x, y))
    assert found.kappa.value == pytest.approx(plain_kappa(x, y))
    assert found.error.value == pytest.approx(fmean(x) - fmean(y))
    for estimate in (found.exact, found.within_one, found.spearman, found.kendall, found.kappa, found.error):
        assert (estimate.low is None) == (estimate.high is None)
        if estimate.low is not None and estimate.high is not None:
            assert estimate.low < estimate.high
    assert agreement(x, y) == found


def test_known_values() -> None:
    # Kendall's and Spearman's textbook forms without ties: 8 of 10 pairs agree, 2 don't; sum of squared rank gaps is 4.
    found = agreement([1, 2, 3, 4, 5], [2, 1, 3, 5, 4])
    assert found.kendall.value == pytest.approx((8 - 2) / 10)
    assert found.spearman.value == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert found.kappa.value == pytest.approx(1 - (4 / 5) / 4)


def test_a_perfect_and_a_reversed_judge() -> None:
    labels = [1, 3, 5, 7, 9] * 4
    perfect = agreement(labels, labels)
    assert (perfect.exact.value, perfect.kappa.value, perfect.error.value) == (1, 1, 0)
    assert (perfect.spearman.value, perfect.kendall.value) == (pytest.approx(1), pytest.approx(1))
    assert perfect.exact.low == pytest.approx(0.839, abs=1e-3)  # 20 of 20 is not certainty
    reverse = agreement([10 - v for v in labels], labels)
    assert reverse.spearman.value == pytest.approx(-1)
    assert reverse.kappa.value is not None
    assert reverse.kappa.value < 0


def test_the_lenient_judge_ranks_well_and_agrees_badly() -> None:
    labels = [1.0, 2, 3, 4, 5, 6, 7] * 3
    found = agreement([v + 3 for v in labels], labels)
    assert found.spearman.value == pytest.approx(1)
    assert found.error == Estimate(3.0, None, None), "that all are alike is no certainty"
    assert found.kappa.value is not None
    assert found.kappa.value < 0.5
    assert found.within_one.value == 0


def test_what_is_not_defined_is_not_made_up() -> None:
    nothing = Estimate(None, None, None)
    constant = agreement([5, 5, 5, 5], [1, 2, 3, 4])
    assert constant.spearman == constant.kendall == nothing
    assert constant.kappa.value == pytest.approx(0)
    same = agreement([5, 5, 5], [5, 5, 5])
    assert same.kappa == same.spearman == nothing
    assert same.exact.value == 1
    assert agreement([], []).exact == agreement([], []).error == nothing


def test_a_few_answers_have_no_interval() -> None:
    few = agreement([1, 5, 9, 8], [2, 5, 9, 6])
    assert few.spearman.value == pytest.approx(1)
    assert few.spearman.low is few.kappa.low is few.error.low is None
    assert few.exact.low is not None  # Wilson's says how little four of them are worth
    more = agreement([1, 5, 9, 8, 3], [2, 5, 9, 6, 3])
    assert more.kappa.low is not None
    assert more.error.low is not None
    many = agreement([1, 5, 9] * 4, [2, 5, 9] * 4, [0, 1, 2] * 4)
    assert (many.n, many.answers, many.kappa.low) == (12, 3, None)


def width(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.high - estimate.low


def test_labels_of_one_answer_are_one_observation() -> None:
    scores, labels = [1, 3, 4, 6, 7, 9, 2, 8], [2, 3, 6, 5, 7, 10, 1, 9]
    once = agreement(scores, labels)
    thrice = agreement(scores * 3, labels * 3, list(range(8)) * 3)
    assert (thrice.n, thrice.answers) == (24, 8)
    assert (once.n, once.answers) == (8, 8)
    for name in ("exact", "within_one", "spearman", "kendall", "kappa", "error"):
        one, three = getattr(once, name), getattr(thrice, name)
        assert (three.value, three.low, three.high) == pytest.approx((one.value, one.low, one.high)), name
        assert width(getattr(agreement(scores * 3, labels * 3), name)) < 0.75 * width(one), name
    lengths = [10, 20, 40, 80, 160, 320, 15, 640]
    thrice_bias = length_bias(scores * 3, labels * 3, lengths * 3, list(range(8)) * 3)
    assert thrice_bias.value == pytest.approx(length_bias(scores, labels, lengths).value)


def test_an_interval_over_labels_by_several_people_covers_the_truth() -> None:
    import random

    source = random.Random(5)
    inside = apart = 0
    for _ in range(30):
        scores, labels, answers = [], [], []
        for answer in range(12):
            worth = source.randint(2, 8)
            score = worth + source.choice([-1, 0, 1])  # the judge errs once for all who labelled the answer
            for _ in range(6):
                scores.append(score)
                labels.append(worth + source.choice([-1, 0, 0, 1]))
                answers.append(answer)
        inside += covers(agreement(scores, labels, answers).error, 0)
        apart += covers(agreement(scores, labels).error, 0)
    assert inside >= 27
    assert apart < 27, "taken for independent, they would promise too much"


def covers(estimate: Estimate, truth: float) -> bool:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= truth <= estimate.high


def test_lengths_and_numbers_are_checked() -> None:
    with pytest.raises(ValueError, match="2 scores, 1 labels and 2 answers"):
        agreement([1, 2], [1])
    with pytest.raises(ValueError, match="1 answers"):
        agreement([1, 2], [1, 2], ["a"])
    with pytest.raises(ValueError, match="not a finite number"):
        agreement([math.nan], [1])
    with pytest.raises(ValueError, match="3 lengths"):
        length_bias([1, 2], [1, 2], [1, 2, 3])


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    import random

    source = random.Random(3)
    inside = 0
    for _ in range(100):
        labels = [source.randint(1, 9) for _ in range(60)]
        estimate = agreement([v + source.choice([-1, 0, 1]) for v in labels], labels).error  # the true mean is 0
        assert estimate.low is not None
        assert estimate.high is not None
        inside += estimate.low <= 0 <= estimate.high
    assert 88 <= inside <= 99


def test_length_bias() -> None:
    lengths = [10, 40, 90, 200, 500, 800, 1300, 2000] * 3
    labels = [3, 7, 2, 8, 5, 6, 4, 5] * 3
    fair = length_bias(labels, labels, lengths)
    assert fair == Estimate(None, None, None)  # an error that never varies goes with nothing
    paid = length_bias([label + i % 8 * 0.3 for i, label in enumerate(labels)], labels, lengths)
    assert paid.value == pytest.approx(1)
    noise = [0.5, -0.5, -0.5, 0.5, 0.5, -0.5, -0.5, 0.5] * 3
    none = length_bias([label + n for label, n in zip(labels, noise, strict=True)], labels, lengths)
    assert none.value == pytest.approx(0, abs=0.3)
    assert none.low is not None
    assert none.high is not None
    assert none.low < 0 < none.high


@given(st.text(max_size=300), st.floats(1, 5))
def test_padding(answer: str, factor: float) -> None:
    longer = padded(answer, factor)
    assert longer.startswith(answer)
    assert len(longer) >= factor * len(answer)
    assert len(longer) <= factor * len(answer) + 600
    assert padded(answer, factor) == longer


def test_padding_effect() -> None:
    paid = padding_effect([5, 6, 4, 7, 5, 6], [6, 7, 5, 8, 6, 7])
    assert (paid.mean, paid.n, paid.p) == (1, 6, pytest.approx(2 / 2**6))


def test_the_labelled_examples_that_come_with_assay() -> None:
    path = builtin_labels(RUBRIC)
    assert path is not None
    examples = load_labels(path, RUBRIC)
    assert len(examples) >= 20
    for name in RUBRIC.metrics:
        values = [e.labels[name] for e in examples]
        assert (min(values), max(values)) == (0, 10)
    prompts = [e.sample.prompt for e in examples]
    assert all(prompts.count(prompt) >= 4 for prompt in prompts)  # so that pairs can be compared
    assert builtin_labels(load_rubric("semantic")) is None


LINE = {"id": "a", "prompt": "Q", "answer": "A", "labels": {"reasoning": 1, "correctness": 2.5, "clarity": 10}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": {"reasoning": 1, "correctness": 2}}, "no label for 'clarity'"),
        ({"labels": {**LINE["labels"], "clarity": 11}}, "'clarity' must be a number from 0 to 10, not 11"),  # type: ignore[dict-item]
        ({"labels": {**LINE["labels"], "clarity": True}}, "not True"),  # type: ignore[dict-item]
        ({"labels": {**LINE["labels"], "clearness": 1}}, "'clearness', which is no dimension"),  # type: ignore[dict-item]
        ({"labels": 7}, "labels must be a JSON object"),
        ({"labels": None}, "needs 'labels'"),
        ({"prompt": ""}, "needs 'prompt'"),
        ({"answer": None}, "needs 'answer'"),
        ({"lables": {}}, "did you mean 'labels'"),
        ({"reference": "x"}, "reference must be a JSON object"),
        ({"answer": "<think>Is it A"}, "never ends its reasoning"),
    ],
)
def test_examples_that_do_not_fit(tmp_path: Path, change: dict[str, object], says: str) -> None:
    good = json.dumps({**LINE, "id": "first"})
    path = written(tmp_path / "l.jsonl", f"{good}\n{json.dumps({**LINE, **change})}\n")
    with pytest.raises(SuiteError) as caught:
        load_labels(path, RUBRIC)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert says in str(caught.value)


def test_example_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="no labelled examples"):
        load_labels(written(tmp_path / "empty.jsonl", "\n"), RUBRIC)
    with pytest.raises(SuiteError, match="'a' stands twice"):
        load_labels(written(tmp_path / "twice.jsonl", (json.dumps(LINE) + "\n") * 2), RUBRIC)
    line = json.dumps({**LINE, "labels": {"truthfulness": 1, "informativeness": 1}})
    with pytest.raises(SuiteError, match="no 'best_answer'"):
        load_labels(written(tmp_path / "l.jsonl", line), load_rubric("truthfulqa"))
    empty = load_labels(written(tmp_path / "e.jsonl", json.dumps({**LINE, "answer": ""})), RUBRIC)
    assert empty[0].answer == ""
    thought = load_labels(
        written(tmp_path / "t.jsonl", json.dumps({**LINE, "answer": "<think>Is it A?</think>A"})), RUBRIC
    )
    assert thought[0].answer == "A", "a judge sees what follows the reasoning, here as everywhere"


def example(name: str, answer: str, points: float) -> Labelled:
    return Labelled(Sample(name, "Question?"), answer, dict.fromkeys(RUBRIC.metrics, points))


EXAMPLES = [example("a", "one", 2), example("b", "two", 5), example("c", "three", 9)]


def scores(points: float) -> str:
    return json.dumps(dict.fromkeys(RUBRIC.metrics, points))


async def test_a_trial(tmp_path: Path) -> None:
    # Right about plain answers, a point up for padded ones, and in pairs always for the first.
    rules = [{"contains": "You compare two answers", "answer": '{"better": "first"}'}]
    rules += [{"contains": f"\n{e.answer}\n===", "answer": scores(e.labels["clarity"])} for e in EXAMPLES]
    rules += [{"contains": f"\n{e.answer}\n\nThis is", "answer": scores(e.labels["clarity"] + 1)} for e in EXAMPLES]
    model = await open_model(f"scripted:{written(tmp_path / 'j.yaml', json.dumps({'answers': rules}))}")
    trial = await try_judge(model, RUBRIC, EXAMPLES)
    assert trial.asked == 3
    assert trial.failures == ()
    assert set(trial.agreement) == set(trial.padding) == set(trial.length) == set(RUBRIC.metrics)
    assert trial.agreement["clarity"].exact.value == 1
    assert (trial.padding["clarity"].n, trial.padding["clarity"].mean) == (3, 1)
    assert (trial.position.n, trial.position.first, trial.position.consistent) == (3, 3, 0)
    assert trial.preferences == (3, 0)


async def test_a_trial_counts_whom_the_judge_prefers(tmp_path: Path) -> None:
    # In both orders it prefers "three" to "one" and "one" to "two"; of "two" and "three" it can't tell.
    def order(first: str, second: str) -> str:
        text = pair_messages(RUBRIC, Sample("pair", "Question?"), first, second)[1].content
        return text[text.index("The first answer") :]

    rules = []
    for better, worse in (("three", "one"), ("one", "two")):
        rules.append({"contains": order(better, worse), "answer": '{"better": "first"}'})
        rules.append({"contains": order(worse, better), "answer": '{"better": "second"}'})
    rules.append({"contains": "You compare two answers", "answer": '{"better": "tie"}'})
    script = written(tmp_path / "j.yaml", json.dumps({"answers": rules, "default": scores(5)}))
    trial = await try_judge(await open_model(f"scripted:{script}"), RUBRIC, EXAMPLES)
    assert trial.preferences == (3, 1)
    assert (trial.position.n, trial.position.consistent) == (3, 3)


async def test_a_trial_of_a_judge_that_fails_now_and_then(tmp_path: Path) -> None:
    rules = [{"contains": "\ntwo\n", "answer": "no idea"}, {"contains": "You compare", "answer": "no idea"}]
    script = written(tmp_path / "j.yaml", json.dumps({"answers": rules, "default": scores(5)}))
    trial = await try_judge(await open_model(f"scripted:{script}"), RUBRIC, EXAMPLES)
    assert trial.agreement["clarity"].n == 2  # the failure is no zero
    assert trial.padding["clarity"].n == 2
    assert trial.position.n == 0
    assert trial.preferences == (0, 0)
    assert len(trial.failures) == 1 + 1 + 3  # plain, padded, and all pairs


async def test_an_answer_that_several_people_labelled_is_judged_once(tmp_path: Path) -> None:
    rules = [{"contains": "You compare", "answer": '{"better": "tie"}'}]
    script = written(tmp_path / "j.yaml", json.dumps({"answers": rules, "default": scores(5)}))
    model = await open_model(f"scripted:{script}")
    others = [example("a2", "one", 4), example("a3", "one", 6), example("c2", "three", 5)]
    trial = await try_judge(model, RUBRIC, [*EXAMPLES, *others])
    assert (trial.asked, trial.answers) == (6, 3)
    found = trial.agreement["clarity"]
    assert (found.n, found.answers) == (6, 3)
    assert found.exact.value == pytest.approx(2 / 6)
    assert found.error.value == pytest.approx(5 - (2 + 4 + 6 + 5 + 9 + 5) / 6)
    assert trial.padding["clarity"].n == 3
    assert trial.position.n == 3
    assert trial.preferences == (3, 0)


async def test_where_lower_is_better_the_lower_label_is_the_better_answer(tmp_path: Path) -> None:
    text = (
        "name: harm\nversion: 1\ninputs: {question: prompt, answer: answer}\n"
        'dimensions: {harm: {range: [0, 10], better: lower, asks: "?", anchors: {"0": none, "10": much}}}\n'
    )
    rubric = load_rubric(written(tmp_path / "harm.yaml", text))
    bad, good = (
        Labelled(Sample(name, "Question?"), name, {"harm": points}) for name, points in (("bad", 9), ("good", 0))
    )
    system, first = pair_messages(rubric, Sample("pair", "Question?"), "good", "bad")
    assert "Higher is better, but for harm, where lower is." in system.content
    order = first.content[first.content.index("The first answer") :]
    rules = [
        {"contains": order, "answer": '{"better": "first"}'},
        {"contains": "You compare", "answer": '{"better": "second"}'},
    ]
    script = written(tmp_path / "j.yaml", json.dumps({"answers": rules, "default": '{"harm": 5}'}))
    trial = await try_judge(await open_model(f"scripted:{script}"), rubric, [bad, good])
    assert trial.preferences == (1, 1)


async def test_a_trial_without_padding(tmp_path: Path) -> None:
    script = written(tmp_path / "j.yaml", json.dumps({"default": scores(5)}))
    trial = await try_judge(await open_model(f"scripted:{script}"), RUBRIC, EXAMPLES[:1], padding=False)
    assert trial.padding == {}
    assert trial.agreement["clarity"].n == 1
    assert trial.position.n == 0
