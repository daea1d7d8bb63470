"""What `import trivium` costs and what it must not drag in."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trivium
from trivium import _core, errors

HEAVY = ("torch", "transformers", "tokenizers", "rich", "matplotlib", "sentencepiece", "tiktoken")


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_import_loads_no_stack() -> None:
    loaded = run(f"import sys, trivium; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert loaded == "[]"


def test_import_is_silent_under_warnings_as_errors() -> None:
    assert run("import warnings; warnings.simplefilter('error'); import trivium") == ""


def test_version_is_that_of_the_crates_and_the_distribution() -> None:
    from importlib.metadata import version

    assert trivium.__version__ == _core.__version__ == version("trivium")


def test_public_names() -> None:
    assert sorted(trivium.__all__) == list(trivium.__all__)
    for name in trivium.__all__:
        assert getattr(trivium, name) is not None


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_a_trivium_error(name: str) -> None:
    cls = getattr(errors, name)
    assert issubclass(cls, errors.TriviumError)
    assert cls.__doc__


def test_errors_are_caught_as_builtins() -> None:
    pairs = [
        (errors.InputError, ValueError),
        (errors.TokenError, ValueError),
        (errors.UnsupportedError, NotImplementedError),
        (errors.StateError, RuntimeError),
        (errors.DeviceError, RuntimeError),
        (errors.InternalError, RuntimeError),
        (errors.MissingExtraError, ImportError),
        (errors.UnsupportedSchema, errors.UnsupportedError),
        (errors.InvalidGrammar, errors.InputError),
        (errors.DeadEnd, errors.StateError),
    ]
    for cls, base in pairs:
        assert issubclass(cls, base)
