"""What a probe's run is called: after the model, and never like the run of another one."""

from __future__ import annotations

from collections.abc import Callable

from assay.errors import BadInput
from assay.models.base import ModelInfo
from assay.models.open import resolve
from assay.results.index import Ledger

# Digits of an identity that tell two models of one name apart.
_DIGITS = 6


def run_of(info: ModelInfo, ledger: Ledger, wanted: str | None, note: Callable[[str], None]) -> str:
    """The run that this model's answers belong to. wanted: what the user calls it.

    Two models may have one name, behind two URLs or in two folders: whoever comes second has the start of its identity in the
    run's name, each time. Raises `BadInput` where the `wanted` run is another model's.
    """
    if wanted is not None:
        known = ledger.run(wanted)
        if known is not None and known.identity != info.identity:
            if known.base != info.name:
                raise BadInput(
                    f"the run {wanted!r} in {ledger.workspace} is that of another model, {known.base}; "
                    "give this one a name of its own with --run"
                )
            note(f"{info.name} or its engine has changed since the run {wanted!r} began; it shows the new answers only")
        return wanted
    name = resolve(info.name).name
    first = ledger.run(name)
    if first is None or first.identity == info.identity:
        return name
    names = (f"{name}-{info.identity[:digits]}" for digits in range(_DIGITS, len(info.identity) + 1))
    called = next(each for each in names if (known := ledger.run(each)) is None or known.identity == info.identity)
    other = (
        f"another model, {first.base}" if first.base != info.name else "this model as it was, or with another engine"
    )
    note(f"the run {name!r} is that of {other}; this one is called {called!r} (--run gives another name)")
    return called
