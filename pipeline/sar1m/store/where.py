"""Conditions on the columns of samples.parquet: a strict part of SQL's WHERE, parsed here and never run as code.

    country = 'PRT' and relative_orbit = 45
    sar_datetime between '2020-05-01' and '2020-09-30' and not (cloud_frac > 0.05 or cloud_frac is null)
    paired and platform in ('sentinel-1a', 'sentinel-1c') and enl >= 4

A test is `column = value` (=, <>, !=, <, <=, >, >=), `column [not] in (value, ...)`, `column [not] between value and
value`, `column is [not] null`, or the name of a true-or-false column alone; tests are joined by and, or, not and
parentheses. Values are numbers, 'text' ('' for a quote in it), true and false; times are text in ISO 8601, UTC where
they name no zone. Keywords may be written in any case, names of columns as the table has them.

An empty value is neither equal nor unequal to anything: its test is unknown, `not` of it is unknown too, and a sample
is selected where the whole is true. So SQL has it (ISO/IEC 9075-2, three-valued logic); the tests compare with DuckDB.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from sar1m.store.errors import ConfigError, printable
from sar1m.store.table_columns import LATER_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

# pyarrow loads with the first table: who only parses need not have it.
# ruff: noqa: PLC0415

MAX_LETTERS: Final = 10_000
MAX_NESTING: Final = 100
_SHOWN_LETTERS: Final = 40

Value = str | int | float | bool
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"""
    r"""|(?P<name>[A-Za-z_]\w*)|(?P<sign><=|>=|<>|!=|[=<>(),])|(?P<other>\S))""",
    re.ASCII,
)
_KEYWORDS: Final = frozenset({"and", "or", "not", "in", "between", "is", "null", "true", "false"})
_COMPARISONS: Final = {
    "=": "equal",
    "<>": "not_equal",
    "!=": "not_equal",
    "<": "less",
    "<=": "less_equal",
    ">": "greater",
    ">=": "greater_equal",
}


@dataclass(frozen=True, kw_only=True)
class _Token:
    """kind: text, number, name, keyword, sign, other or end. at: where it begins, from 0."""

    kind: str
    written: str
    at: int


@dataclass(frozen=True, kw_only=True)
class _Literal:
    value: Value
    token: _Token


@dataclass(frozen=True, kw_only=True)
class _Test:
    """One test of one column. kind: a key of _COMPARISONS, in, between, null, or true (the column itself)."""

    column: _Token
    kind: str
    values: tuple[_Literal, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Joined:
    kind: Literal["and", "or", "not"]
    parts: tuple[_Test | _Joined, ...]


class Where:
    """A parsed condition. Raises ConfigError for text that is none, naming the place in it and what was expected."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parser = _Parser(text)
        self._root = self._parser.condition()

    @property
    def columns(self) -> frozenset[str]:
        """The columns it asks for."""
        return frozenset(test.column.written for test in _tests(self._root))

    def check_columns(self, names: Sequence[str]) -> None:
        """Raises ConfigError unless every column is one of names, or one that a later schema version brought."""
        for test in _tests(self._root):
            name = test.column.written
            if name not in names and name not in LATER_COLUMNS:
                near = difflib.get_close_matches(name, names, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise self._parser.refusal(
                    f"there is no column {printable(name)}", test.column, f"{hint.strip()} Columns: {', '.join(names)}."
                )

    def holds(self, table: pa.Table) -> pa.BooleanArray:
        """Whether it holds for each row of a table with its columns; never empty.

        A column of a later schema version that the table lacks is empty throughout. Raises ConfigError for a column
        that is not there, or whose values cannot be compared with those given.
        """
        import pyarrow.compute as pc

        self.check_columns(table.column_names)
        return pc.fill_null(self._holds(self._root, table), fill_value=False)

    def _holds(self, node: _Test | _Joined, table: pa.Table) -> pa.Array:
        import pyarrow.compute as pc

        if isinstance(node, _Test):
            return self._tested(node, table)
        found = [self._holds(part, table) for part in node.parts]
        if node.kind == "not":
            return pc.invert(found[0])
        join = pc.and_kleene if node.kind == "and" else pc.or_kleene
        whole = found[0]
        for part in found[1:]:
            whole = join(whole, part)
        return whole

    def _tested(self, test: _Test, table: pa.Table) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        name = test.column.written
        if name not in table.column_names:
            return pa.array([True if test.kind == "null" else None] * len(table), pa.bool_())
        column = table.column(name).combine_chunks()
        if test.kind == "null":
            return pc.is_null(column)
        if test.kind == "true":
            if not pa.types.is_boolean(column.type):
                raise self._parser.refusal(f"{name} is not true or false", test.column, "Compare it with a value.")
            return column
        scalars = [self._scalar(test, literal, column.type) for literal in test.values]
        if any(pa.types.is_float64(one.type) for one in scalars) and pa.types.is_integer(column.type):
            column, scalars = pc.cast(column, pa.float64(), safe=False), [one.cast(pa.float64()) for one in scalars]
        if test.kind == "between":
            return pc.and_kleene(pc.greater_equal(column, scalars[0]), pc.less_equal(column, scalars[1]))
        if test.kind == "in":
            found = pc.is_in(column, value_set=pa.array([one.as_py() for one in scalars], type=column.type))
            return pc.if_else(pc.is_null(column), pa.scalar(None, pa.bool_()), found)
        return getattr(pc, _COMPARISONS[test.kind])(column, scalars[0])

    def _scalar(self, test: _Test, literal: _Literal, kind: pa.DataType) -> pa.Scalar:
        """A value as one of the column's type; of a fraction and a column of whole numbers as float64."""
        import pyarrow as pa

        value = literal.value
        if (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and isinstance(value, str):
            return pa.scalar(value, kind)
        if pa.types.is_boolean(kind) and isinstance(value, bool) and _COMPARISONS.get(test.kind, "equal") in _SAMENESS:
            return pa.scalar(value, kind)
        if pa.types.is_timestamp(kind) and isinstance(value, str):
            return pa.scalar(self._time(literal), kind)
        if not isinstance(value, (str, bool)) and pa.types.is_floating(kind):
            return pa.scalar(float(value), kind)
        if not isinstance(value, (str, bool)) and pa.types.is_integer(kind):
            return pa.scalar(value, pa.float64() if isinstance(value, float) else pa.int64())
        expected = next((words for is_kind, words in _KINDS.items() if getattr(pa.types, is_kind)(kind)), None)
        column = printable(test.column.written)
        if expected is None:
            raise self._parser.refusal(
                f"{column} holds {kind}, which has no single value", test.column, "Use another column."
            )
        raise self._parser.refusal(f"{column} is compared with {expected}", literal.token)

    def _time(self, literal: _Literal) -> datetime:
        try:
            found = datetime.fromisoformat(str(literal.value))
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            remedy = "Write it as '2020-05-31' or '2020-05-31T06:30:00'."
            raise self._parser.refusal("this is no time", literal.token, remedy) from None


_SAMENESS: Final = ("equal", "not_equal")
_KINDS: Final = {
    "is_string": "text in single quotes",
    "is_large_string": "text in single quotes",
    "is_boolean": "true or false, by = or <>",
    "is_timestamp": "a time in single quotes, such as '2020-05-31'",
    "is_floating": "a number",
    "is_integer": "a number",
}


def _tests(node: _Test | _Joined) -> Iterator[_Test]:
    if isinstance(node, _Test):
        yield node
    else:
        for part in node.parts:
            yield from _tests(part)


class _Parser:
    """Recursive descent over the tokens; MAX_NESTING bounds how deep."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LETTERS:
            raise ConfigError(f"where: {len(text):,} characters; at most {MAX_LETTERS:,} are read. Use a shorter one.")
        self._text = text
        self._tokens = [*_tokens(text), _Token(kind="end", written="", at=len(text.rstrip()))]
        self._next, self._depth = 0, 0

    def condition(self) -> _Test | _Joined:
        """The whole text. ConfigError where it is no condition."""
        found = self._or()
        if self._now.kind != "end":
            raise self.refusal("expected and, or, or the end")
        return found

    def refusal(self, what: str, token: _Token | None = None, remedy: str = "") -> ConfigError:
        """The error that shows where the token stands; None: the next one."""
        at = self._now if token is None else token
        rest = self._text[at.at : at.at + _SHOWN_LETTERS]
        found = f"found {printable(rest)!r}" if rest.strip() else "found the end"
        return ConfigError(f"where: {what}, at character {at.at + 1}: {found}. {remedy}".rstrip())

    @property
    def _now(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, *written: str) -> bool:
        """Goes on if the next token is one of these keywords or signs."""
        token = self._now
        taken = token.kind in ("keyword", "sign") and token.written in written
        self._next += taken
        return taken

    def _expect(self, written: str, what: str) -> None:
        if not self._take(written):
            raise self.refusal(f"expected {what}")

    def _or(self) -> _Test | _Joined:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise self.refusal(f"more than {MAX_NESTING} levels of parentheses and not")
        parts = [self._and()]
        while self._take("or"):
            parts.append(self._and())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else _Joined(kind="or", parts=tuple(parts))

    def _and(self) -> _Test | _Joined:
        parts = [self._not()]
        while self._take("and"):
            parts.append(self._not())
        return parts[0] if len(parts) == 1 else _Joined(kind="and", parts=tuple(parts))

    def _not(self) -> _Test | _Joined:
        turned = 0
        while self._take("not"):
            turned += 1
        found = self._primary()
        return _Joined(kind="not", parts=(found,)) if turned % 2 else found

    def _primary(self) -> _Test | _Joined:
        if self._take("("):
            found = self._or()
            self._expect(")", "and, or, or a closing parenthesis")
            return found
        if self._now.kind != "name":
            raise self.refusal("expected the name of a column, not, or a parenthesis")
        column = self._now
        self._next += 1
        return self._test(column)

    def _test(self, column: _Token) -> _Test | _Joined:
        sign = self._now.written
        if self._take(*_COMPARISONS):
            return _Test(column=column, kind=sign, values=(self._literal(),))
        if self._take("is"):
            turned = self._take("not")
            self._expect("null", "null or not null")
            return _turned(_Test(column=column, kind="null"), turned)
        turned = self._take("not")
        if self._take("in"):
            self._expect("(", "a parenthesis with the values")
            values = [self._literal()]
            while self._take(","):
                values.append(self._literal())
            self._expect(")", "a comma, or the parenthesis that closes the values")
            return _turned(_Test(column=column, kind="in", values=tuple(values)), turned)
        if self._take("between"):
            least = self._literal()
            self._expect("and", "and with the upper value of between")
            return _turned(_Test(column=column, kind="between", values=(least, self._literal())), turned)
        if turned or (self._now.kind not in ("end", "keyword") and self._now.written != ")"):
            raise self.refusal(f"expected =, <>, <, <=, >, >=, in, between or is behind {printable(column.written)}")
        return _Test(column=column, kind="true")

    def _literal(self) -> _Literal:
        token = self._now
        value: Value
        if token.kind == "text":
            value = token.written[1:-1].replace("''", "'")
        elif token.kind == "number":
            value = self._number(token)
        elif token.kind == "keyword" and token.written in ("true", "false"):
            value = token.written == "true"
        elif token.kind == "keyword" and token.written == "null":
            raise self.refusal("nothing equals null", remedy="Write `is null` or `is not null`.")
        else:
            raise self.refusal("expected a value", remedy="Text stands in single quotes, as in country = 'PRT'.")
        self._next += 1
        return _Literal(value=value, token=token)

    def _number(self, token: _Token) -> int | float:
        value = float(token.written)
        if not math.isfinite(value) or (token.written.lstrip("+-").isdigit() and abs(int(token.written)) >= 2**63):
            raise self.refusal("this number is too large", token)
        return int(token.written) if token.written.lstrip("+-").isdigit() else value


def _turned(test: _Test, turned: bool) -> _Test | _Joined:
    return _Joined(kind="not", parts=(test,)) if turned else test


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        written = match[kind]
        if kind == "name" and written.lower() in _KEYWORDS:
            kind, written = "keyword", written.lower()
        yield _Token(kind=kind, written=written, at=match.start(match.lastgroup or 0))
