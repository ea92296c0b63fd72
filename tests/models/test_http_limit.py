"""The bound on requests under way: order, cancellation, giving way and recovering."""

from __future__ import annotations

import asyncio

import pytest

from assay.models.http_limit import AdaptiveLimit


async def test_slots_are_handed_out_in_the_order_of_asking() -> None:
    limit = AdaptiveLimit(1)
    await limit.acquire()
    order: list[int] = []

    async def ask(number: int) -> None:
        await limit.acquire()
        order.append(number)
        limit.release()

    tasks = [asyncio.create_task(ask(number)) for number in range(5)]
    await asyncio.sleep(0)
    limit.release()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]
    assert limit.used == 0


async def test_a_cancelled_waiter_costs_no_slot() -> None:
    limit = AdaptiveLimit(1)
    await limit.acquire()
    early, waiting, handed = (asyncio.create_task(limit.acquire()) for _ in range(3))
    await asyncio.sleep(0)
    early.cancel()
    await asyncio.sleep(0)
    waiting.cancel()  # its turn is passed over before it can run
    limit.release()  # the slot goes to `handed`, which is cancelled before it can run
    handed.cancel()
    for task in (early, waiting, handed):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert limit.used == 0
    await asyncio.wait_for(limit.acquire(), 1)


async def test_it_gives_way_once_for_requests_that_were_under_way_together_and_recovers() -> None:
    limit = AdaptiveLimit(10)
    together = [await limit.acquire() for _ in range(10)]
    for epoch in together:
        limit.push_back(epoch)
        limit.release()
    assert limit.bound == 7
    limit.push_back(await limit.acquire())
    limit.release()
    assert limit.bound == 4
    for _ in range(100):
        limit.push_back(await limit.acquire())
        limit.release()
    assert limit.bound == 1, "one request always may"
    for _ in range(36):
        limit.succeeded()
    assert limit.bound == 10
    limit.succeeded()
    assert limit.bound == 10


async def test_push_backs_that_are_not_about_how_many_are_under_way_change_nothing() -> None:
    limit = AdaptiveLimit(8)
    epochs = [await limit.acquire() for _ in range(8)]
    limit.succeeded()
    limit.push_back(epochs[0])
    assert limit.bound == 8, "another was answered while as many were under way"
    limit.push_back(epochs[1])
    assert limit.bound == 5, "nothing was answered since"
    limit.succeeded()
    limit.push_back(await asyncio.wait_for(_slot(limit), 1))
    assert limit.bound == 5


async def _slot(limit: AdaptiveLimit) -> int:
    """One of the five slots, after all that were taken were given back."""
    while limit.used:
        limit.release()
    return await limit.acquire()


async def test_a_repetition_goes_first() -> None:
    limit = AdaptiveLimit(1)
    await limit.acquire()
    order: list[str] = []

    async def ask(name: str, first: bool) -> None:
        await limit.acquire(first=first)
        order.append(name)
        limit.release()

    tasks = [asyncio.create_task(ask(name, name == "again")) for name in ("one", "two", "again")]
    await asyncio.sleep(0)
    limit.release()
    await asyncio.gather(*tasks)
    assert order == ["again", "one", "two"]


async def test_a_bound_that_fell_holds_back_those_who_wait() -> None:
    limit = AdaptiveLimit(4)
    epochs = [await limit.acquire() for _ in range(4)]
    waiting = asyncio.create_task(limit.acquire())
    limit.push_back(epochs[0])  # 2.8: two may be under way
    for _ in range(2):
        limit.release()
        await asyncio.sleep(0)
        assert not waiting.done()
    limit.release()
    await asyncio.wait_for(waiting, 1)
