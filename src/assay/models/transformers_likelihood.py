"""How likely given texts are, on transformers: many windows in one pass, each row under its own adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from assay.errors import AssayError, GenerationError
from assay.models.answer import checked_logprob
from assay.models.likelihood import Weighed, Window
from assay.models.transformers_adapters import PeftSlots

# Positions whose probabilities over the vocabulary are in float32 at once: 256 of 150,000 tokens are 150 MB.
_POSITIONS = 256
# Logits of one pass, in numbers: 2^28 of 16 bits are half a gigabyte.
_LOGITS = 1 << 28


class Scales:
    """Weighs windows in as few passes as the memory has room for. batch: rows of one pass, at most."""

    def __init__(self, model: Any, slots: PeftSlots, device: str, batch: int) -> None:
        self._model = model
        self._slots = slots
        self._device = device
        self._batch = batch
        self._vocabulary = int(model.config.get_text_config().vocab_size)

    def weigh(self, windows: Sequence[Window]) -> list[list[Weighed] | AssayError]:
        """What came of each window, in order."""
        found: dict[int, list[Weighed] | AssayError] = {}
        parts = self._parts(windows)
        while parts:
            part = parts.pop()
            try:
                found.update(zip(part, self._pass([windows[n] for n in part]), strict=True))
            except out_of_memory() as error:
                if len(part) > 1:
                    self._batch = max(1, len(part) // 2)
                    parts += [part[: len(part) // 2], part[len(part) // 2 :]]
                    continue
                found[part[0]] = GenerationError(
                    f"{self._device} has no memory for this text ({' '.join(str(error).split())[:200]}); set a smaller "
                    "context_length, or take a smaller model"
                )
        return [found[n] for n in range(len(windows))]

    def _parts(self, windows: Sequence[Window]) -> list[list[int]]:
        """The windows' places, those of like length together, within the bounds of rows and of logits."""
        parts: list[list[int]] = []
        widest = 0
        for n in sorted(range(len(windows)), key=lambda n: len(windows[n].ids)):
            told = max(widest, len(windows[n].told))
            full = parts and (len(parts[-1]) >= self._batch or (len(parts[-1]) + 1) * told * self._vocabulary > _LOGITS)
            if not parts or full:
                parts.append([])
                told = len(windows[n].told)
            parts[-1].append(n)
            widest = told
        return parts

    def _pass(self, windows: Sequence[Window]) -> Iterator[list[Weighed] | AssayError]:
        import torch

        width = max(len(window.ids) for window in windows)
        ids = [[0] * (width - len(window.ids)) + list(window.ids) for window in windows]
        real = [[0] * (width - len(window.ids)) + [1] * len(window.ids) for window in windows]
        mask = torch.tensor(real, device=self._device)
        with torch.inference_mode(), self._slots.using([window.adapter for window in windows]):
            logits = self._model(
                input_ids=torch.tensor(ids, device=self._device),
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                use_cache=False,
                logits_to_keep=max(len(window.told) for window in windows),
            ).logits
            return iter([_told(its[-len(window.told) :], window) for its, window in zip(logits, windows, strict=True)])


def _told(logits: Any, window: Window) -> list[Weighed] | AssayError:
    """logits: (tokens told, vocabulary)."""
    import torch

    found: list[Weighed] = []
    for begin in range(0, len(window.told), _POSITIONS):
        ids = list(window.told[begin : begin + _POSITIONS])
        exact = logits[begin : begin + _POSITIONS].float().log_softmax(-1)
        logprobs = exact.gather(1, torch.tensor(ids, device=exact.device)[:, None])[:, 0].tolist()
        try:
            found += [
                Weighed(token, checked_logprob(logprob), token == best)
                for token, logprob, best in zip(ids, logprobs, exact.argmax(-1).tolist(), strict=True)
            ]
        except GenerationError as error:
            return error
    return found


def out_of_memory() -> type[BaseException]:
    """The exception that says that the device's memory is full."""
    import torch

    found: type[BaseException] = torch.OutOfMemoryError
    return found
