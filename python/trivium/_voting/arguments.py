"""Arguments of a voter as the core takes them: checked types, ranges left to the core."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

__all__ = [
    "ALONE",
    "abstain_of",
    "array_of",
    "budget_of",
    "config_of",
    "integer_of",
    "list_of",
    "number_of",
    "optional_of",
    "rows_of",
    "string_of",
    "strings_of",
    "text_of",
]

_OPTIONS: dict[str, Any] = {
    "delimiters": None,
    "fallback": "off",
    "percent": "strip",
    "letters": "ABCDE",
    "options": (),
}
ALONE: dict[str, Any] = {
    "stop": ["majority"],
    "budget": 1,
    "order": "launch",
    "latency": None,
    "bare": True,
    "log_odds": [],
    "window": 2048,
    "prune": [],
    "finish_on_answer": False,
    "probe": None,
    "steps": "last",
    "accept": None,
    "fork": None,
    "count_late": False,
    "max_tokens": None,
    "pool": "free",
    "slots": None,
    "total": None,
    "total_tokens": None,
    "log": False,
    "unchecked": False,
    "abstain": (0.0, 0.0, 0, 1.0),
}
"""What a list of answers that are all there needs of a policy."""
_JSON_OPTIONS = ("ignore", "only", "round", "unordered")


def config_of(
    key: str, key_options: Mapping[str, Any] | None, weight: str, ties: str, seed: int
) -> dict[str, Any]:
    given = dict(key_options or {})
    overlooked = _json_rules({name: given.pop(name) for name in _JSON_OPTIONS if name in given})
    unknown = [name for name in given if name not in _OPTIONS]
    if unknown:
        names = ", ".join((*_OPTIONS, *_JSON_OPTIONS))
        raise InputError(f"key_options: {unknown[0]!r} is unknown; choose one of: {names}")
    options = _OPTIONS | given
    delimiters = options["delimiters"]
    if delimiters is not None:
        options["delimiters"] = [_delimiter(mark) for mark in delimiters]
    for name in ("fallback", "percent", "letters"):
        options[name] = string_of(name, options[name])
    if overlooked and key.split(":")[-1] != "json":
        raise InputError(f"key_options: {', '.join(_JSON_OPTIONS)} belong to json, not to {key!r}")
    options["options"] = strings_of("options", options["options"]) + overlooked
    return options | {
        "key": string_of("key", key),
        "weight": string_of("weight", weight),
        "ties": string_of("ties", ties),
        "seed": integer_of("seed", seed, 64),
    }


def _json_rules(given: Mapping[str, Any]) -> list[str]:
    """Rules of a JSON key as the core reads them."""
    rules = []
    for name in ("ignore", "only", "unordered"):
        rules += [f"{name}:{path}" for path in strings_of(name, given.get(name, ()))]
    digits = given.get("round", {})
    try:
        rules += [f"round:{text_of('round', path)}:{int(n)}" for path, n in digits.items()]
    except (AttributeError, TypeError, ValueError):
        raise InputError("round: needs a mapping of paths to numbers of digits") from None
    return rules


def abstain_of(given: Mapping[str, float] | None) -> tuple[float, float, int, float]:
    default = {"min_share": 0.0, "min_margin": 0.0, "min_ballots": 0, "max_none_rate": 1.0}
    names = (*default, "min_p_correct")
    unknown = [name for name in given or {} if name not in names]
    if unknown:
        raise InputError(f"abstain: {unknown[0]!r} is unknown; choose one of: {', '.join(names)}")
    rule = default | dict(given or {})
    least = min(integer_of("min_ballots", rule["min_ballots"], 63), 2**32 - 1)
    share, margin, rate = (
        float(rule[name]) for name in ("min_share", "min_margin", "max_none_rate")
    )
    return share, margin, least, rate


def _delimiter(mark: Any) -> tuple[str, str | None]:
    if isinstance(mark, str):
        return text_of("delimiters", mark), None
    try:
        start, end = mark
    except (TypeError, ValueError):
        raise InputError(f"delimiters: {mark!r} is neither a text nor a pair of texts") from None
    return text_of("delimiters", start), text_of("delimiters", end)


def string_of(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what}: needs a text, found {type(value).__name__}")
    return str(value)


def strings_of(what: str, values: Any) -> list[str]:
    if isinstance(values, (str, bytes)):
        raise InputError(f"{what}: needs a list of texts, found one text")
    try:
        return [text_of(what, value) for value in values]
    except TypeError:
        raise InputError(f"{what}: needs texts, found {type(values).__name__}") from None


def text_of(what: str, value: Any) -> str:
    """Text without lone surrogates, which no UTF-8 string can hold."""
    text = string_of(what, value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def integer_of(what: str, value: Any, bits: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{what}: needs an integer, found {type(value).__name__}") from None
    if not 0 <= number < 1 << bits:
        raise InputError(f"{what}: {number} is not in 0 .. 2**{bits} - 1")
    return number


def optional_of(what: str, value: Any, bits: int) -> int | None:
    return None if value is None else integer_of(what, value, bits)


def list_of(what: str, value: Any) -> list[str]:
    """One text or several."""
    if value is None:
        return []
    return [text_of(what, value)] if isinstance(value, str) else strings_of(what, value)


def number_of(what: str, value: Any) -> float | None:
    """Read a number that may be missing; the core says which ones are allowed."""
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise InputError(f"{what}: needs a number, found {type(value).__name__}") from None


def budget_of(value: Any) -> int:
    return min(integer_of("budget", value, 63), 2**32 - 1)


def array_of(what: str, values: Any, dtype: Any) -> npt.NDArray[Any]:
    """One axis of a numeric array, copied only where type or layout ask for it."""
    if not isinstance(values, np.ndarray) and hasattr(values, "__dlpack__"):
        try:
            values = np.from_dlpack(values)
        except (BufferError, RuntimeError, TypeError) as e:
            raise InputError(f"{what}: cannot be read as a CPU array: {e}") from None
    try:
        array = np.asarray(values)
        if array.size == 0:
            array = array.astype(dtype)
        if dtype is np.int64 and array.dtype.kind not in "iu":
            raise InputError(f"{what}: needs integers, found {array.dtype}")
        array = np.ascontiguousarray(array, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(f"{what}: {e}") from None
    if array.ndim != 1:
        raise InputError(f"{what}: has shape {array.shape}; one axis is expected")
    return array


def rows_of(what: str, values: Any, rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    array = array_of(what, values, np.float64)
    if array.shape != rows.shape:
        raise InputError(f"{what}: has shape {array.shape}; qs has {rows.shape}")
    return array
