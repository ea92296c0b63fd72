"""A llama.cpp model that is open for the length of a block, and short ways to ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from assay.models.base import TextModel, complete
from assay.models.llama_cpp import open_engine
from assay.models.local import LocalModel
from assay.types import Completion, EngineSettings, GenerateOptions, Raw

QUESTION = "What is the capital of Genovia?"
HELLO = Raw("hello")
GREEDY = GenerateOptions(max_tokens=24)


@asynccontextmanager
async def opened(path: Path, settings: EngineSettings | None = None) -> AsyncIterator[LocalModel]:
    model = await LocalModel.open(lambda: open_engine(str(path), settings or EngineSettings()), f"llama:{path}")
    try:
        yield model
    finally:
        await model.aclose()


async def answer(model: TextModel, prompt: Any = HELLO, **options: Any) -> Completion:
    return await complete(model, prompt, GenerateOptions(**{"max_tokens": 24, **options}))
