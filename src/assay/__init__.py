"""Which LoRA checkpoint to ship, and what each one broke.

The public API, imported as it is used: `import assay` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.api.evaluate import evaluate, evaluate_sync
    from assay.api.score import score, score_stream, score_sync
    from assay.api.scores import Scores
    from assay.errors import (
        AdapterBroken,
        AdapterMismatch,
        AssayError,
        BadInput,
        CheckpointError,
        EngineDied,
        GenerationError,
        Unreachable,
        UnsupportedOption,
    )
    from assay.evaluated import Evaluation, SampleResult
    from assay.models.base import AdapterModel, BatchModel, LogprobModel, ModelInfo, TextModel, complete, complete_many
    from assay.models.classify import Classification, classify, classify_sync
    from assay.models.open import open_model
    from assay.models.sync import complete_sync, iterate_sync, run_sync, stream_sync
    from assay.models.worker import WorkerModel
    from assay.results.lens import Lens
    from assay.scoring import ScoredAnswer
    from assay.suites.answers import Answered, read_answers
    from assay.suites.suite import Suite, load_suite
    from assay.types import (
        Adapter,
        Checkpoint,
        Chunk,
        Completion,
        EngineSettings,
        GenerateOptions,
        Goal,
        HttpSettings,
        Likelihood,
        Message,
        Prompt,
        Raw,
        Sample,
        Score,
        ScoreFailure,
        Token,
        Usage,
    )

__version__ = "0.1.0"

_HOMES = {
    "assay.api.evaluate": "evaluate evaluate_sync",
    "assay.api.score": "score score_stream score_sync",
    "assay.api.scores": "Scores",
    "assay.errors": (
        "AdapterBroken AdapterMismatch AssayError BadInput CheckpointError EngineDied GenerationError Unreachable "
        "UnsupportedOption"
    ),
    "assay.evaluated": "Evaluation SampleResult",
    "assay.models.base": "AdapterModel BatchModel LogprobModel ModelInfo TextModel complete complete_many",
    "assay.models.classify": "Classification classify classify_sync",
    "assay.models.open": "open_model",
    "assay.models.sync": "complete_sync iterate_sync run_sync stream_sync",
    "assay.models.worker": "WorkerModel",
    "assay.results.lens": "Lens",
    "assay.scoring": "ScoredAnswer",
    "assay.suites.answers": "Answered read_answers",
    "assay.suites.suite": "Suite load_suite",
    "assay.types": (
        "Adapter Checkpoint Chunk Completion EngineSettings GenerateOptions Goal HttpSettings Likelihood Message Prompt Raw "
        "Sample Score ScoreFailure Token Usage"
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Adapter",
    "AdapterBroken",
    "AdapterMismatch",
    "AdapterModel",
    "Answered",
    "AssayError",
    "BadInput",
    "BatchModel",
    "Checkpoint",
    "CheckpointError",
    "Chunk",
    "Classification",
    "Completion",
    "EngineDied",
    "EngineSettings",
    "Evaluation",
    "GenerateOptions",
    "GenerationError",
    "Goal",
    "HttpSettings",
    "Lens",
    "Likelihood",
    "LogprobModel",
    "Message",
    "ModelInfo",
    "Prompt",
    "Raw",
    "Sample",
    "SampleResult",
    "Score",
    "ScoreFailure",
    "ScoredAnswer",
    "Scores",
    "Suite",
    "TextModel",
    "Token",
    "Unreachable",
    "UnsupportedOption",
    "Usage",
    "WorkerModel",
    "__version__",
    "classify",
    "classify_sync",
    "complete",
    "complete_many",
    "complete_sync",
    "evaluate",
    "evaluate_sync",
    "iterate_sync",
    "load_suite",
    "open_model",
    "read_answers",
    "run_sync",
    "score",
    "score_stream",
    "score_sync",
    "stream_sync",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'assay' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
