"""Expressions such as "2x(x + 1)" or "sqrt(2)/2": read by a small grammar, and compared by their values at fixed points.

Two expressions are equal if they have the same value at each of the points where either has one, whatever names they share.
Values are exact as long as they are fractions, else complex numbers. "x + y = 2" is "y = 2 - x".
"""

from __future__ import annotations

import cmath
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

Value = Fraction | complex
Term = Callable[[Mapping[str, Value]], Value]

_LONGEST, _DEEPEST = 300, 30  # characters and brackets of an expression; more are none
_DIGITS = 2000  # of an exact power, about
_CLOSE = 1e-9
_ENOUGH = 3  # points at which both have a value
_FUNCTIONS: Mapping[str, Callable[[complex], complex]] = {
    "sqrt": cmath.sqrt,
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "sec": lambda x: 1 / cmath.cos(x),
    "csc": lambda x: 1 / cmath.sin(x),
    "cot": lambda x: 1 / cmath.tan(x),
    "arcsin": cmath.asin,
    "arccos": cmath.acos,
    "arctan": cmath.atan,
    "sinh": cmath.sinh,
    "cosh": cmath.cosh,
    "tanh": cmath.tanh,
    "ln": cmath.log,
    "log": cmath.log10,
    "exp": cmath.exp,
    "abs": abs,
}
FUNCTIONS = "|".join(sorted(_FUNCTIONS, key=len, reverse=True))
GREEK = "alpha|beta|gamma|delta|epsilon|theta|lambda|mu|rho|sigma|tau|phi|omega"
_CONSTANTS: Mapping[str, complex] = {"pi": math.pi, "π": math.pi, "e": math.e, "i": 1j}
NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|\.\d+"
_NAME = rf"(?:{GREEK}|[A-Za-zα-ωΑ-Ω])(?:_(?:\w|\(\w+\)))?"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>{NUMBER})|(?P<function>(?:{FUNCTIONS})(?![a-z]))|(?P<name>pi(?![a-z])|{_NAME})|(?P<sign>[-+*/^!°()\[\]|=]))"
)
_SPOTS = (Fraction(7, 5), Fraction(12, 7), Fraction(5, 9), Fraction(-8, 5), Fraction(23, 10), Fraction(-3, 7))


@dataclass(frozen=True, slots=True)
class Expression:
    """names: of the variables. value: its value with them. defined: the name it is said to be ("y" of "y = 3x"), "" for none.

    difference: of an equation, one side less the other. An equation that defines no name has no other value.
    """

    names: frozenset[str]
    value: Term
    defined: str = ""
    difference: Term | None = None

    def equals(self, said: Expression, tolerance: Fraction = Fraction(0)) -> bool:
        """The same at every point. tolerance: the largest difference that is none, between expressions without a name."""
        plain = [bool(each.defined) or each.difference is None for each in (self, said)]
        if all(plain):
            if self.defined and said.defined and self.defined != said.defined:
                return False
            names = sorted((self.names | said.names) - ({self.defined, said.defined} - {""}))
            slack = float(tolerance) if not names else 0.0
            both = _pairs(self.value, said.value, names)
            return both is not None and all(_close(a, b, slack) for a, b in both)
        if self.difference is None or said.difference is None:
            return False
        both = _pairs(self.difference, said.difference, sorted(self.names | said.names))
        if both is None or not all(a and b for a, b in both):
            return False
        return len(self.names) > 0 and all(_close(a * both[0][1], b * both[0][0]) for a, b in both)


def parse(text: str) -> Expression | None:
    """The expression or equation that the whole text is, in one notation; None if it is anything else."""
    if len(text) > _LONGEST or text.count("(") + text.count("[") + text.count("^") > _DEEPEST:
        return None
    try:
        sides = [_Parser(side) for side in text.split("=")]
        terms = [side.whole() for side in sides]
    except ValueError:
        return None
    names = frozenset(name for side in sides for name in side.names)
    if len(terms) == 1:
        return Expression(names, terms[0])
    if len(terms) > 2:
        return None

    def difference(at: Mapping[str, Value]) -> Value:
        return terms[0](at) - terms[1](at)

    lone = re.fullmatch(rf"({_NAME})(?:\([a-z]\))?", text.split("=", 1)[0].strip())
    defines = lone is not None and lone[1] not in sides[1].names
    return Expression(names, terms[1], lone[1] if lone and defines else "", difference)


def last_side(text: str) -> Expression | None:
    """What a chain of equals signs ends in."""
    return parse(text.rsplit("=", 1)[-1])


def _pairs(one: Term, two: Term, names: list[str]) -> list[tuple[Value, Value]] | None:
    """The values of both at the points where they have one; None if there are too few, or only one of them has."""
    pairs = []
    for step in range(len(_SPOTS)):
        at = {name: _SPOTS[(step + place) % len(_SPOTS)] + Fraction(place, 11) for place, name in enumerate(names)}
        a, b = _at(one, at), _at(two, at)
        if (a is None) != (b is None):
            return None
        if a is not None and b is not None:
            pairs.append((a, b))
    return pairs if len(pairs) >= _ENOUGH else None


def _at(term: Term, at: Mapping[str, Value]) -> Value | None:
    try:
        value = term(at)
    except (ArithmeticError, ValueError):
        return None
    return value if isinstance(value, Fraction) or cmath.isfinite(value) else None


def _close(one: Value, two: Value, slack: float = 0.0) -> bool:
    if isinstance(one, Fraction) and isinstance(two, Fraction) and not slack:
        return one == two
    try:
        one, two = complex(one), complex(two)
    except OverflowError:
        return False
    return abs(one - two) <= max(slack, _CLOSE * max(abs(one), abs(two)), 1e-12)


class _Parser:
    """Recursive descent; raises ValueError for what is no expression."""

    def __init__(self, text: str) -> None:
        self.names: set[str] = set()
        self._tokens: list[tuple[str, str]] = []
        position = 0
        text = text.strip()
        while position < len(text):
            token = _TOKEN.match(text, position)
            if token is None:
                raise ValueError(text)
            kind = token.lastgroup or ""
            self._tokens.append((kind, token[kind]))
            position = token.end()
        if len(self._tokens) > _LONGEST or text.count("-") + text.count("+") > _DEEPEST:
            raise ValueError(text)
        self._next = 0

    def whole(self) -> Term:
        term = self._sum()
        if self._next < len(self._tokens):
            raise ValueError("more follows")
        return term

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._next] if self._next < len(self._tokens) else ("", "")

    def _take(self, sign: str) -> bool:
        if self._peek() != ("sign", sign):
            return False
        self._next += 1
        return True

    def _sum(self) -> Term:
        total = self._product()
        while self._peek()[1] in ("+", "-"):
            adds = self._take("+") or not self._take("-")
            total = _added(total, self._product()) if adds else _taken(total, self._product())
        return total

    def _product(self) -> Term:
        product = self._signed()
        while True:
            if self._take("*"):
                product = _times(product, self._signed())
            elif self._take("/"):
                product = _over(product, self._signed())
            elif self._begins_factor():
                if self._peek()[0] == "number":  # "x 2", "2 3"
                    raise ValueError("a number behind a factor")
                product = _times(product, self._power())
            else:
                return product

    def _begins_factor(self) -> bool:
        kind, text = self._peek()
        return kind in ("number", "function", "name") or text in ("(", "[")

    def _signed(self) -> Term:
        if self._take("-"):
            return _times(lambda _: Fraction(-1), self._signed())
        self._take("+")
        return self._power()

    def _power(self) -> Term:
        base = self._atom()
        while self._take("!"):
            base = _factorial(base)
        if self._take("°"):
            base = _times(base, lambda _: complex(math.pi / 180))
        return _raised(base, self._signed()) if self._take("^") else base

    def _atom(self) -> Term:
        kind, text = self._peek()
        self._next += 1
        if kind == "number":
            number = Fraction(text.replace(",", ""))
            return lambda _: number
        if kind == "function":
            return self._applied(text)
        if kind == "name":
            if text in _CONSTANTS:
                constant = _CONSTANTS[text]
                return lambda _: constant
            self.names.add(text)
            return lambda at: at[text]
        closing = {"(": ")", "[": "]", "|": "|"}.get(text)
        if kind != "sign" or closing is None:
            raise ValueError(text)
        inner = self._sum()
        if not self._take(closing):
            raise ValueError("not closed")
        return (lambda at: complex(abs(complex(inner(at))))) if text == "|" else inner

    def _applied(self, name: str) -> Term:
        """A function of what stands in brackets, or of the product that follows: "sin 2x"."""
        power = self._signed() if self._take("^") else None
        if self._peek()[1] in ("(", "["):
            argument = self._atom()
        else:
            argument = self._signed()
            while self._peek()[0] == "name":
                argument = _times(argument, self._power())
        function = _FUNCTIONS[name]
        if name == "sqrt":
            applied: Term = lambda at: _root(argument(at))  # noqa: E731
        else:
            applied = lambda at: complex(function(complex(argument(at))))  # noqa: E731
        return _raised(applied, power) if power else applied


def _added(one: Term, two: Term) -> Term:
    return lambda at: one(at) + two(at)


def _taken(one: Term, two: Term) -> Term:
    return lambda at: one(at) - two(at)


def _times(one: Term, two: Term) -> Term:
    return lambda at: one(at) * two(at)


def _over(one: Term, two: Term) -> Term:
    return lambda at: one(at) / two(at)


def _root(value: Value) -> Value:
    if isinstance(value, Fraction) and value >= 0:
        above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if Fraction(above, below) ** 2 == value:
            return Fraction(above, below)
    return cmath.sqrt(complex(value))


def _raised(base: Term, exponent: Term) -> Term:
    def value(at: Mapping[str, Value]) -> Value:
        one, two = base(at), exponent(at)
        if isinstance(one, complex) or isinstance(two, complex) or two.denominator > 1:
            return complex(one) ** complex(two)
        if len(str(one)) * abs(two) <= _DIGITS:
            return one ** int(two)
        return complex(one) ** complex(two)

    return value


def _factorial(term: Term) -> Term:
    def value(at: Mapping[str, Value]) -> Value:
        one = term(at)
        if isinstance(one, Fraction) and one.denominator == 1 and 0 <= one <= 100:
            return Fraction(math.factorial(int(one)))
        if isinstance(one, complex):
            raise ValueError("no factorial")
        return complex(math.gamma(float(one) + 1))

    return value
