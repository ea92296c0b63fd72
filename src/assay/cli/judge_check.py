"""`assay judge-check`: how far can this judge be trusted?"""

from __future__ import annotations

import json as js
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from assay.cli.http import HttpFlags, with_flags
from assay.cli.judging import Votes, close_judge, open_judge
from assay.cli.settings import Config, ConfigFile, Json, settings
from assay.cli.stopping import run
from assay.errors import BadInput
from assay.report.figures import number_figure, share_figure
from assay.scorers.judge_labels import Labelled, builtin_labels, load_labels
from assay.scorers.judge_trial import JudgeTrial, try_judge
from assay.scorers.rubric import Rubric
from assay.scorers.rubric_file import load_rubric

if TYPE_CHECKING:
    from assay.scorers.estimate import Estimate

# The exit code of a check that measured nothing.
INCONCLUSIVE = 4
_SHOWN = 5


def judge_check(
    judge: str,
    labels: Path | None = None,
    /,
    *,
    rubric: str = "capability",
    votes: Votes = 1,
    http: HttpFlags = None,
    json: Json = False,
    config: ConfigFile = None,
) -> int:
    """Measure a judge against labelled examples: agreement, and bias by position and by length.

    Parameters
    ----------
    judge
        The model that judges: a URL with #MODEL, a local model, or a name from assay.toml.
    labels
        Labelled examples, a JSON line each: prompt, answer, labels [those that come with the rubric].
    rubric
        The rubric, by name or file.
    """
    found = with_flags(settings(config, None), http, judge)
    loaded = load_rubric(rubric)
    file = labels or builtin_labels(loaded)
    if file is None:
        raise BadInput(f"no labelled examples come with the rubric {loaded.name!r}; name a file of your own")
    examples = load_labels(file, loaded)
    try:
        trial = run(_check(found, judge, loaded, examples, votes))
    except KeyboardInterrupt:
        print("assay: stopped; nothing is kept of a check, so the same command begins anew", file=sys.stderr)
        raise
    if json:
        print(js.dumps(asdict(trial), ensure_ascii=False, indent=2))
    elif trial.judged:
        _print(trial)
    _print_failures(trial)
    return 0 if not trial.failures else 1 if trial.judged else INCONCLUSIVE


async def _check(found: Config, judge: str, rubric: Rubric, examples: tuple[Labelled, ...], votes: int) -> JudgeTrial:
    model = await open_judge(judge, found)
    assert model is not None
    try:
        return await try_judge(model, rubric, examples, votes=votes)
    except ValueError as error:
        raise BadInput(str(error)) from error
    finally:
        await close_judge(model)


def _print(trial: JudgeTrial) -> None:
    from assay.report.blocks import Column, blocks, console_on, print_all

    names = list(trial.agreement)
    found = list(trial.agreement.values())
    columns = [
        Column("n", [str(each.n) for each in found]),
        Column("exact", [_figure(each.exact, percent=True) for each in found]),
        Column("within one", [_figure(each.within_one, percent=True) for each in found]),
        Column("kappa", [_figure(each.kappa) for each in found]),
        Column("alpha", [_figure(each.alpha.interval) for each in found]),
        *([Column("votes' alpha", [_votes(trial, name) for name in names])] if trial.votes else []),
        Column("Spearman", [_figure(each.spearman) for each in found]),
        Column("error", [_figure(each.error) for each in found]),
        Column("length bias", [_figure(trial.length[name]) if name in trial.length else "–" for name in names]),
        Column("padding", [_padding(trial, name) for name in names]),
    ]
    console = console_on()
    print_all(console, blocks([Column("dimension", names)], columns, console.width))
    if trial.answers < trial.asked:
        print(f"\nn: labels, of {trial.answers} answers; the labels of one answer are one observation to the intervals")
    print(f"\npairs: {_pairs(trial)}")
    print(
        "error is score less label; length bias is the correlation of that with length; padding is what empty words add."
    )


def _pairs(trial: JudgeTrial) -> str:
    position, (pairs, better) = trial.position, trial.preferences
    if position.p is None:
        return "none was judged in both orders"
    alike = f"{position.consistent} of {position.n} judged alike in both orders"
    turned = f"the first place won {position.first} times, the second {position.second} (p = {position.p:.2g})"
    preferred = f"the better labelled answer was preferred in {better} of {pairs}" if pairs else "no two labels differ"
    return f"{alike}; {turned}\n       {preferred}"


def _print_failures(trial: JudgeTrial) -> None:
    """Why there is no verdict, on standard error: the commonest reasons, and how much of all they are."""
    sys.stdout.flush()
    reasons = Counter(trial.failures).most_common()
    for reason, count in reasons[:_SHOWN]:
        print(f"assay: {count} without a verdict: {reason}", file=sys.stderr)
    if len(reasons) > _SHOWN:
        left = sum(count for _, count in reasons[_SHOWN:])
        print(f"assay: {left} without a verdict for {len(reasons) - _SHOWN} other reasons", file=sys.stderr)
    if trial.failures:
        print("assay: " + _left_out(trial), file=sys.stderr)


def _left_out(trial: JudgeTrial) -> str:
    if trial.judged:
        return f"{len(trial.failures)} without a verdict, in no number above"
    return f"the judge gave no verdict at all on {trial.asked} examples, so nothing is known of it"


def _padding(trial: JudgeTrial, name: str) -> str:
    return f"{trial.padding[name].mean:+.2f} (p = {trial.padding[name].p:.2g})" if name in trial.padding else "–"


def _votes(trial: JudgeTrial, name: str) -> str:
    return _figure(trial.votes[name].interval) if name in trial.votes else "–"


def _figure(estimate: Estimate, *, percent: bool = False) -> str:
    if estimate.value is None:
        return "–"
    interval = (estimate.low, estimate.high) if estimate.low is not None and estimate.high is not None else None
    return share_figure(estimate.value, interval) if percent else number_figure(estimate.value, interval)
