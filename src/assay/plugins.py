"""Names for parts: `Registry` maps a name to "module:attribute" and imports it only when the part is asked for.

Parts of other packages join through entry points (groups `assay.engines`, `assay.scorers`). A name can be checked
without importing what it names, so a suite file is validated before any heavy library loads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from assay.errors import UnknownName

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause for an error message: the nearest known name, else all of them."""
    import difflib  # only ever needed for a mistake

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(names) if names else "none are known"


class Registry(Generic[T]):
    """Lazily imported parts of one kind, by name.

    kind: the word error messages use ("scorer"). group: the entry-point group of outside parts. A built-in name
    can't be taken over by an entry point: two parts under one name would make a score mean two things.
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = group
        self._builtin = dict(builtin)
        self._targets: dict[str, str] | None = None

    def _all(self) -> dict[str, str]:
        if self._targets is None:
            from importlib.metadata import entry_points  # slow to import, and needed only for outside parts

            targets = dict(self._builtin)
            for point in entry_points(group=self.group):
                if targets.get(point.name, point.value) != point.value:
                    raise UnknownName(
                        f"the {self.kind} name {point.name!r} is claimed by both {targets[point.name]} and {point.value}; "
                        "uninstall one of the two packages"
                    )
                targets[point.name] = point.value
            self._targets = targets
        return self._targets

    def names(self) -> tuple[str, ...]:
        """All known names, sorted."""
        return tuple(sorted(self._all()))

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._all()

    def check(self, name: str) -> None:
        """Raise `UnknownName` with the nearest name unless `name` is known. Imports nothing."""
        if name not in self:
            raise UnknownName(f"unknown {self.kind} {name!r}; {nearest(name, self._all())}")

    def get(self, name: str) -> T:
        """Import and return the part called `name`. Raises `UnknownName` where another package can't bring it."""
        self.check(name)
        target = self._builtin.get(name) or self._all()[name]
        module, _, attribute = target.partition(":")
        try:
            return cast(T, getattr(import_module(module), attribute))
        except (ImportError, AttributeError) as error:
            if name in self._builtin:
                raise
            raise UnknownName(
                f"the {self.kind} {name!r} can't be imported from {target} ({error}); mend or uninstall that package"
            ) from error


# What a scorer is, `assay.scorers.base.Scorer` says: a layer above this one, so the type can't be named here.
SCORERS: Registry[Any] = Registry(
    "scorer",
    "assay.scorers",
    {
        "answered": "assay.scorers.answered:Answered",
        "choice": "assay.scorers.choice:Choice",
        "contains_word": "assay.scorers.match:ContainsWord",
        "final_answer": "assay.scorers.final_answer:FinalAnswer",
        "final_number": "assay.scorers.match:FinalNumber",
        "gsm8k_v1": "assay.scorers.exact:Gsm8kV1",
        "lek": "assay.scorers.heuristic:LekScorer",
        "lm_eval": "assay.scorers.lm_eval:AnsweredTask",
        "lm_eval_weighed": "assay.scorers.lm_eval:WeighedTask",
        "markers": "assay.scorers.markers:Markers",
        "perplexity": "assay.scorers.perplexity:Perplexity",
        "probe_answer": "assay.scorers.probe:ProbeAnswer",
    },
)
