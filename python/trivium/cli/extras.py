"""Optional dependencies: which are present, and the line that installs the others."""

from __future__ import annotations

import importlib.util

from trivium.errors import MissingExtraError

__all__ = ["EXTRAS", "install_line", "missing", "need"]

EXTRAS: dict[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "transformers": ("torch", "transformers"),
    "report": ("matplotlib",),
    "demo": ("torch", "transformers", "tokenizers", "rich", "matplotlib"),
    "test": ("torch", "transformers", "hypothesis", "mypy", "pytest", "ruff", "sentencepiece"),
}
"""Modules by extra, as `pyproject.toml` declares the distributions."""


def install_line(extra: str) -> str:
    """Return the command that installs an extra.

    Examples
    --------
    >>> install_line("demo")
    "pip install 'trivium[demo]'"
    """
    return f"pip install 'trivium[{extra}]'"


def missing(extra: str) -> list[str]:
    """List the modules of an extra that cannot be found; nothing is imported."""
    return [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]


def need(extra: str, *, but: tuple[str, ...] = ()) -> None:
    """Refuse to go on without an extra.

    Parameters
    ----------
    extra : str
        Name of the extra.
    but : tuple of str
        Modules of it that the caller can do without.

    Raises
    ------
    MissingExtraError
        A module is absent; the message is the line that installs the extra.
    """
    if set(missing(extra)) - set(but):
        raise MissingExtraError(install_line(extra))
