"""The contract itself: the scripted engine passes it, and every broken promise is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from assay.testing import AdapterContract, UnderTest
from tests.testing import script

pytest_plugins = "pytester"


@pytest.fixture(scope="module")
def under_test(tmp_path_factory: pytest.TempPathFactory) -> UnderTest:
    return script.scripted(tmp_path_factory.mktemp("scripted"))


class TestScripted(AdapterContract):
    """It tells no likelihoods and holds no context, so its contract is the smaller one."""


# What is broken, the test that must find it, and what that test says.
BROKEN = [
    (script.LosesLetters, "as_likely_as_it_was", "assert"),
    (script.IgnoresStops, "ends_before_a_stop_string", "stop="),
    (script.LosesWhatLooksLikeAStop, "only_begins_like_a_stop_string", "assert"),
    (script.GoesOneFurther, "max_tokens_is_the_most", "assert"),
    (script.SaysAllAtOnce, "long_answer_comes_in_pieces", "all of the answer came at once"),
    (script.EndsSilently, "error_in_mid_answer", "DID NOT RAISE"),
    (script.TakesErrorsForEnds, "error_in_mid_answer", "DID NOT RAISE"),
    (script.ForgetsWhatWasSaid, "error_in_mid_answer", "assert '' == 'So far'"),
    (script.GoesOn, "nobody_waits_for_is_stopped", "goes on with answers that were left"),
    (script.EndsAllWhoLeave, "who_leaves_disturbs_nobody", "somebody left"),
    (script.HasOneSeed, "seed_makes_sampling_repeatable", "other seeds gave the same answer"),
    (script.HasNoSeed, "seed_makes_sampling_repeatable", "the same seed gave two answers"),
    (script.DropsOptions, "option_is_taken_or_refused", "DID NOT RAISE"),
    (script.AnswersTheLatest, "answers_at_once_are_those_of_each_alone", "assert"),
    (script.HasACurrentAdapter, "no_answer_is_another_adapters", "of 1000 answers at once are not"),
    (script.NeverDetaches, "detached_adapter_answers_no_more", "DID NOT RAISE"),
    (script.ForgetsOtherUses, "detached_adapter_answers_no_more", "is not attached"),
    (script.MixesABatchUp, "several_prompts_together", "assert"),
    (script.IsEveryModel, "identity_is_of_what_decides", "other weights must have another identity"),
    (script.IsNeverTheSame, "identity_is_of_what_decides", "assert"),
    (script.IsTooSure, "as_likely_as_it_was", "assert"),
    (script.ShowsHalfCharacters, "never_shown_in_part", "assert"),
    (script.PutsATemplateAroundAll, "text_is_one_user_message", "raw text stays as it is"),
    (script.CutsLongPrompts, "what_has_no_room_is_an_error", "DID NOT RAISE"),
]
ON_THE_LAB = (script.LosesLetters, script.HasOneSeed, script.HasNoSeed, script.IsTooSure, script.CutsLongPrompts)

FILE = """
    from pathlib import Path
    import pytest
    from assay.testing import AdapterContract
    from tests.testing import script

    @pytest.fixture(scope="module")
    def under_test():
        return script.{made}

    class TestBroken(AdapterContract):
        pass
"""


def found(pytester: pytest.Pytester, made: str, test: str, says: str) -> None:
    """Assert that the contract's test fails, and says why."""
    pytester.makepyfile(FILE.format(made=made))
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nasyncio_default_fixture_loop_scope = "function"')
    # Native tracebacks: pytest's own parse sources, in which Python 3.11 now and then fails (SystemError, recursion depth).
    ran = pytester.runpytest_inprocess("-q", "--tb=native", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", test)
    outcomes = ran.parseoutcomes()
    assert outcomes.keys() & {"failed", "errors", "error"}, "nothing was found"
    assert "passed" not in outcomes
    assert says in str(ran.stdout)


@pytest.mark.parametrize(("kind", "test", "says"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_promise_is_found(
    pytester: pytest.Pytester, tmp_path: Path, kind: type[script.Through], test: str, says: str
) -> None:
    if kind in ON_THE_LAB:
        pytest.importorskip("xllamacpp", reason="needs the engine llama: pip install 'assay[llama]'")
        made = f"lab(Path({str(tmp_path)!r}), script.{kind.__name__})"
    else:
        made = f"scripted(Path({str(tmp_path)!r}), kind=script.{kind.__name__})"
    found(pytester, made, test, says)


def test_who_does_not_ask_for_it_needs_no_pytest() -> None:
    code = "import assay.models.open, assay.api, sys; sys.exit('pytest' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("adapters", "says"),
    [
        ("adapters: previous", "of 1000 answers at once are not"),
        ("adapters: ignore", "must change the answers"),
        ("adapters: lose\nlose_after: 700", "of 1000 answers at once are not"),
    ],
    ids=["previous", "ignore", "lose"],
)
def test_adapters_that_an_engine_mistreats_are_found(
    pytester: pytest.Pytester, tmp_path: Path, adapters: str, says: str
) -> None:
    found(pytester, f"scripted(Path({str(tmp_path)!r}), {adapters!r})", "no_answer_is_another_adapters", says)
