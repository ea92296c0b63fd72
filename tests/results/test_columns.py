"""Columns of judged scores are told apart by as little as it takes."""

from __future__ import annotations

import pytest

from assay.results.columns import Column, titles

TEXT = Column("correct", "", "", "")
URL = "http://127.0.0.1:8000/v1#org/gemma"


def judged(metric: str, judge: str, measure: str, rubric: str = "semantic") -> Column:
    return Column(metric, f"judge:{rubric}", judge, measure)


@pytest.mark.parametrize(
    ("columns", "taken", "called"),
    [
        ([TEXT, judged("tone", URL, "m1")], (), ["correct", "tone"]),
        ([judged("tone", URL, "m1"), judged("tone", "mlx:/models/llama", "m2")], (), ["tone @ gemma", "tone @ llama"]),
        (
            [judged("tone", "mlx:/a/x", "m1"), judged("tone", "mlx:/b/x", "m2")],
            (),
            ["tone @ mlx:/a/x", "tone @ mlx:/b/x"],
        ),
        (
            [judged("tone", "scripted:a.yaml", "m1"), judged("tone", "scripted:a.yaml", "m2", "polite")],
            (),
            ["tone/semantic @ a.yaml", "tone/polite @ a.yaml"],
        ),
        (
            [judged("tone", "mlx:a", "1234567"), judged("tone", "mlx:a", "abcdefg")],
            (),
            ["tone @ mlx:a (123456)", "tone @ mlx:a (abcdef)"],
        ),
        ([judged("tone", URL, "m1"), judged("depth", URL, "m1")], (), ["tone", "depth"]),
        ([TEXT, judged("correct", URL, "m1")], (), ["correct", "correct @ gemma"]),
        ([judged("correct", URL, "m1")], ("correct",), ["correct @ gemma"]),
        ([judged("tone", URL, "m1"), judged("tone (e4dd4b)", URL, "m2")], (), ["tone", "tone (e4dd4b)"]),
        ([judged("tone", URL, "m1"), judged("tone (e4dd4b)", "b", "m2")], (), ["tone @ gemma", "tone (e4dd4b) @ b"]),
    ],
)
def test_titles(columns: list[Column], taken: tuple[str, ...], called: list[str]) -> None:
    found = titles(columns, taken)
    assert [found[column] for column in columns] == called


def test_only_what_is_given_twice_is_told_apart() -> None:
    a, b = judged("tone", "mlx:a", "m1"), judged("tone", "mlx:b", "m2")
    alone = judged("depth", "mlx:a", "m1")
    assert titles([a, b, alone], ()) == {a: "tone @ mlx:a", b: "tone @ mlx:b", alone: "depth"}
