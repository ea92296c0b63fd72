"""Losses from what trainers write beside their checkpoints: mlx-lm's log lines, and transformers' `trainer_state.json`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from assay.errors import HostFault
from assay.hosts.base import Entry, Host

STATE = "trainer_state.json"
_LOGS = (".log", ".out", ".txt")
_LIMIT = 64 << 20  # bytes of a log that are read; of a longer one, the end
# "Iter 10: Val loss 2.345, Val took 1.2s" and "Iter 10: Train loss 1.234, Learning Rate …", as mlx_lm.lora prints them.
_LINE = re.compile(r"^.*?\bIter (\d+): (Train|Val) loss ([0-9.]+(?:e[+-]?\d+)?)\b", re.MULTILINE)
# "    10    4.658 ▼      232      0.5k" and "    40    val 0.644    0.25s", as mlx_lm.lora prints them from 0.32 on.
_ROW = re.compile(
    r"^.*?(?<!\S)(\d+) {4,}(?:(?P<val>val) +)?(\d+\.\d{3}) (?(val) +[\d.]+s\r?$|[▼▲] +[\d,]+ )", re.MULTILINE
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Loss:
    """One point of a curve. part: "train" or "val"."""

    iteration: int
    part: Literal["train", "val"]
    value: float


@dataclass(frozen=True, slots=True)
class Log:
    """A file that may hold losses, of the run; tag, run_id: go-ml's names, see `Names`."""

    run: str
    tag: str
    run_id: str
    entry: Entry


def is_log(entry: Entry) -> bool:
    """Whether a file's name may be that of a trainer's log."""
    return entry.kind == "file" and entry.size > 0 and (entry.path.name == STATE or entry.path.suffix in _LOGS)


def losses_in_text(text: str) -> Iterator[Loss]:
    """The losses in a log of mlx-lm's. Lines that are none are passed over."""
    for match in _LINE.finditer(text):
        value = float(match[3]) if match[3].count(".") < 2 else math.nan
        if math.isfinite(value):
            yield Loss(int(match[1]), "train" if match[2] == "Train" else "val", value)
    for match in _ROW.finditer(_COLOUR.sub("", text)):
        yield Loss(int(match[1]), "val" if match["val"] else "train", float(match[3]))


def losses_in_state(text: str) -> Iterator[Loss]:
    """The losses in a `trainer_state.json`; none in what is no such file, or half of one."""
    try:
        state = json.loads(text)
        history = state["log_history"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return
    for entry in history if isinstance(history, list) else ():
        step = entry.get("step") if isinstance(entry, dict) else None
        if not isinstance(step, int) or isinstance(step, bool):
            continue
        for name, part in (("loss", "train"), ("eval_loss", "val")):
            value: Any = entry.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                yield Loss(step, "train" if part == "train" else "val", float(value))


class Curves:
    """Reads logs as they grow; each state of a file once."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._seen: dict[PurePosixPath, tuple[int, int]] = {}

    async def read(self, logs: Sequence[Log]) -> list[tuple[Log, list[Loss]]]:
        """What the logs that are new or have changed hold, from their beginning or, if they are very long, near their end."""
        found: list[tuple[Log, list[Loss]]] = []
        for log in logs:
            state = log.entry.size, log.entry.modified_ns
            if self._seen.get(log.entry.path) == state:
                continue
            try:
                raw = await self._host.read(log.entry.path, max(0, log.entry.size - _LIMIT))
            except HostFault:  # gone, or not for us: a curve is no reason to stop
                continue
            self._seen[log.entry.path] = state
            text = raw.decode("utf-8", "replace")
            parse = losses_in_state if log.entry.path.name == STATE else losses_in_text
            found.append((log, list(parse(text))))
        return found
