"""What every model must do, as tests that an engine's author runs with pytest; the project's own engines pass them.

Say in a fixture what is tested, and make a class of a contract:

    @pytest.fixture(scope="module")
    def under_test() -> UnderTest:
        return UnderTest(open=lambda: open_model("mine:weights"), …)

    class TestMine(AdapterContract):
        pass

`ModelContract` is for any `TextModel`, `AdapterContract` for one that takes adapters as well; `AdapterTests` is what the latter
has more. Needs pytest, and none of its plugins.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    "assay.testing.adapters", "assay.testing.answers", "assay.testing.contract", "assay.testing.sharing"
)

from assay.testing.adapters import AdapterContract, AdapterTests  # noqa: E402
from assay.testing.contract import ModelContract  # noqa: E402
from assay.testing.under_test import UnderTest  # noqa: E402

__all__ = ["AdapterContract", "AdapterTests", "ModelContract", "UnderTest"]
