"""Twenty runs of `bench/chaos.py`: whatever happens to a watch over SSH, what it leaves is what an undisturbed one leaves."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.hosts.sshd import needs_sshd

if TYPE_CHECKING:
    from bench import chaos
else:
    sys.path.insert(0, str(ROOT / "bench"))
    import chaos

SEED = 1
RUNS = 20


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chaos.Site]:
    needs_sshd()
    if chaos.faketime() is None:
        pytest.skip("libfaketime is not installed (Debian: faketime)")
    with chaos.site(tmp_path_factory.mktemp("chaos")) as at:
        yield at


@pytest.fixture(scope="module")
def undisturbed(site: chaos.Site) -> tuple[chaos.Facts, float]:
    started = time.monotonic()
    facts, happened = chaos.run(site, 0, None, SEED, 0)
    assert all(facts[store] for store in chaos.STORES), happened
    return facts, time.monotonic() - started


@pytest.mark.parametrize("fault", chaos.FAULTS)
def test_nothing_is_lost_and_nothing_doubled(
    site: chaos.Site, undisturbed: tuple[chaos.Facts, float], fault: str
) -> None:
    if fault == "disk" and os.geteuid() != 0:
        pytest.skip("a small disk of its own can be mounted only by root")
    reference, whole = undisturbed
    for number in range(1, RUNS + 1):
        if chaos.fault_of(number) == fault:
            facts, happened = chaos.run(site, number, fault, SEED, whole)
            assert chaos.difference(facts, reference) == [], f"run {number}: {happened}"
