"""The modules of a text model that lies within one for images as well: transformers' names for them, and mlx-lm's."""

from __future__ import annotations

from collections.abc import Iterable

_IN_TRANSFORMERS, _STORED = "model.language_model.", "language_model.model."
_OUTPUT = "lm_head"


def has_text_model(modules: Iterable[str]) -> bool:
    """Whether transformers has the modules' text model within another."""
    return any(module.startswith(_IN_TRANSFORMERS) for module in modules)


def stored(module: str, *, within: bool) -> str:
    """mlx-lm's name for transformers' module; within: of a text model that `has_text_model` tells of."""
    if module.startswith(_IN_TRANSFORMERS):
        return _STORED + module.removeprefix(_IN_TRANSFORMERS)
    return f"language_model.{module}" if within and module.partition(".")[0] == _OUTPUT else module


def in_transformers(module: str) -> str:
    """transformers' name for mlx-lm's module."""
    if module.startswith(_STORED):
        return _IN_TRANSFORMERS + module.removeprefix(_STORED)
    return module.removeprefix("language_model.") if module.startswith(f"language_model.{_OUTPUT}") else module
