"""The report as one strict JSON document, and back.

NaN and infinities are text (``"NaN"``, ``"Infinity"``, ``"-Infinity"``), because JSON has no such numbers.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union

from porting_check.neutral.errors import PortingError
from porting_check.report import result
from porting_check.report.plain import plain
from porting_check.report.result import SCHEMA, Report

KIND = "porting-check report"
_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def dumps(report: Report, *, indent: int | None = 2) -> str:
    """The whole report as strict JSON: kind and schema first, then the answer, then the evidence.

    Example:
        >>> loads(dumps(report)) == report                     # doctest: +SKIP
        True
    """
    return json.dumps(document(report), indent=indent, ensure_ascii=True, allow_nan=False)


def document(report: Report) -> dict[str, Any]:
    """The report as plain data that JSON can carry.

    ``settings`` must hold plain values (text, numbers, lists, objects) to come back equal.
    """
    data = plain(report)
    first = {
        "kind": KIND,
        "schema": data.pop("schema"),
        "verdict": data.pop("verdict"),
        "exit_status": report.exit_status,
    }
    return {**first, **data}


def loads(text: str | bytes) -> Report:
    """The inverse of :func:`dumps`.

    Raises:
        PortingError: not JSON, not a report, of another schema, or with a value of the wrong kind; the
            message says where.
    """
    try:
        data = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise PortingError(f"the report is not valid JSON: {error}; it may be damaged or cut short") from None
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise PortingError(
            f"this JSON is not a report of porting-check: expected an object with 'kind': {KIND!r}"
        )
    if data.get("schema") != SCHEMA:
        raise PortingError(
            f"the report has schema {data.get('schema')!r}, and this porting-check reads {SCHEMA}: "
            "open it with the version that wrote it, or compare again"
        )
    report: Report = _structure(Report, data, "report")
    return report


def _refuse(name: str) -> Any:
    raise ValueError(f"the bare word {name} is not JSON")


# ----------------------------------------------------------------------------------------------------
# From plain data, by the types that the dataclasses declare


def _structure(kind: Any, value: Any, where: str) -> Any:
    """A value of the declared type, or an error that names the place."""
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _dataclass(typing.cast("type[Any]", kind), value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        return None if value is None and len(inner) < len(arguments) else _structure(inner[0], value, where)
    if origin is Literal:
        return (
            value
            if isinstance(value, str) and value in arguments
            else _wrong(where, " or ".join(map(repr, arguments)), value)
        )
    if origin is tuple:
        return _sequence(arguments, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            _wrong(where, "an object", value)
        return {key: _structure(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    return _scalar(kind, value, where)


def _dataclass(kind: type[Any], value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        _wrong(where, "an object", value)
    hints = _hints(typing.cast(Any, kind))
    fields = dataclasses.fields(kind)
    required = [
        f.name
        for f in fields
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in value]
    if missing:
        raise PortingError(f"the report is damaged: {where} lacks {', '.join(missing)}")
    present = [field.name for field in fields if field.name in value]
    return kind(**{name: _structure(hints[name], value[name], f"{where}.{name}") for name in present})


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """The declared types; ``Difference`` is imported only here, because it brings numerics with it."""
    from porting_check.numerics.difference import Difference

    scope = {**vars(result), "Difference": Difference} if kind.__module__ == result.__name__ else None
    return typing.get_type_hints(kind, globalns=scope)


def _sequence(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        _wrong(where, "a list", value)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_structure(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if len(value) != len(arguments):
        _wrong(where, f"a list of {len(arguments)}", value)
    pairs = enumerate(zip(arguments, value, strict=True))
    return tuple(_structure(kind, item, f"{where}[{index}]") for index, (kind, item) in pairs)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, str) and value in _NUMBERS:
        return _NUMBERS[value]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    return _wrong(where, f"a value of type {kind.__name__}", value)


def _wrong(where: str, expected: str, value: Any) -> typing.NoReturn:
    shown = repr(value)
    raise PortingError(f"the report is damaged: {where} should be {expected}, found {shown[:60]}")
