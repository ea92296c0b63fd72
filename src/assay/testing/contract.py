"""The contract of any model: its answers, and how it is shared."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from assay.models.base import AdapterModel, TextModel
from assay.testing.answers import AnswerTests
from assay.testing.sharing import SharingTests
from assay.testing.under_test import UnderTest, in_loop


class Opened:
    """The fixtures of all tests. They want one more, `under_test`, which gives an `UnderTest`."""

    @pytest.fixture(scope="class")
    @classmethod
    def runner(cls) -> Iterator[asyncio.Runner]:
        """The event loop of all tests of the class: models belong to one."""
        with asyncio.Runner() as runner:
            yield runner

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, under_test: UnderTest, runner: asyncio.Runner) -> Iterator[TextModel]:
        """One model for all tests of the class: what one leaves behind, the next must not notice."""

        async def opened() -> TextModel:
            return await under_test.open()

        model = runner.run(opened())
        yield model
        runner.run(model.aclose())


class ModelContract(Opened, AnswerTests, SharingTests):
    """What any `TextModel` must do. Wants a fixture `under_test` that gives an `UnderTest`, of a class's scope or more."""

    takes_adapters = False

    @in_loop
    async def test_it_is_tested_with_adapters_if_it_takes_them(self, model: TextModel) -> None:
        taken = isinstance(model, AdapterModel) and model.info.resident_adapters > 0
        assert taken == self.takes_adapters, "AdapterContract is for models that take adapters, and ModelContract else"
