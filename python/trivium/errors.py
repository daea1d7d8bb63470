"""Exceptions of trivium.

Every exception derives from `TriviumError` and from the builtin class that hosts already catch, so
a server that answers ``ValueError`` with "bad request" keeps doing so. The fields that a caller can
act on (``limit``, ``value``, ``token``, ``position``, ...) are attributes; messages are for people.

After an exception the object called is in the state before the call.
"""

from __future__ import annotations

__all__ = [
    "Cancelled",
    "DeadEnd",
    "DeviceError",
    "InputError",
    "InternalError",
    "InvalidGrammar",
    "InvalidSchema",
    "LimitError",
    "LimitExceeded",
    "MissingExtraError",
    "StateError",
    "TokenError",
    "TriviumError",
    "UnsatisfiableError",
    "UnsupportedError",
    "UnsupportedPattern",
    "UnsupportedSchema",
]


class TriviumError(Exception):
    """Base of all exceptions of this library."""


class InputError(TriviumError, ValueError):
    """An argument is malformed: wrong shape, dtype, device, range or content."""


class UnsupportedError(TriviumError, NotImplementedError):
    """A well-formed request that this library does not serve, or would serve wrongly."""


class LimitError(TriviumError):
    """A finite budget (time, states, bytes, nodes) was exhausted."""


class TokenError(TriviumError, ValueError):
    """A token id outside the vocabulary, or one that the grammar refuses."""


class StateError(TriviumError, RuntimeError):
    """The call does not fit the state of the object."""


class DeviceError(TriviumError, RuntimeError):
    """A device or its driver refused."""


class InternalError(TriviumError, RuntimeError):
    """A defect of this library; please report it."""


class MissingExtraError(TriviumError, ImportError):
    """An optional dependency is absent; the message is the line that installs it."""


class InvalidGrammar(InputError):  # noqa: N818 - the name users know from the specification
    """A pattern or grammar text that cannot be parsed; the message gives the place."""


class InvalidSchema(InputError):  # noqa: N818
    """A JSON Schema that is not one."""


class UnsupportedPattern(UnsupportedError):  # noqa: N818
    """A regular expression outside the accepted dialect."""


class UnsupportedSchema(UnsupportedError):  # noqa: N818
    """A JSON Schema keyword that cannot be enforced."""


class UnsatisfiableError(InputError):
    """A constraint that no text meets."""


class LimitExceeded(LimitError):  # noqa: N818
    """A compile or run-time limit of a grammar."""


class Cancelled(LimitExceeded):
    """The compiling of a grammar was ended by its `Cancel` flag."""


class DeadEnd(StateError):  # noqa: N818
    """A state of a constraint without a continuation; ``why`` and ``rollback_to`` from a mask."""
