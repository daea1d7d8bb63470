"""The examples in the docstrings of the grammar and its samplers."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import trivium
from trivium import _grammar, constrained

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (_grammar, constrained)
    for module in pkgutil.iter_modules(package.__path__)
]


def examples(module):
    """Docstrings of a module and its classes, wherever they say they are from."""
    for name in ["", *getattr(module, "__all__", [])]:
        top = getattr(module, name) if name else module
        for inner, member in [("", top), *(vars(top).items() if isinstance(top, type) else ())]:
            where = ".".join(filter(None, [module.__name__, name, inner]))
            member = getattr(member, "__func__", getattr(member, "fget", member))
            yield where, getattr(member, "__doc__", None)


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    module = importlib.import_module(name)
    names = {**vars(trivium), **vars(module)}
    for where, text in examples(module):
        if isinstance(text, str) and ">>>" in text:
            example = doctest.DocTestParser().get_doctest(text, dict(names), where, None, 0)
            assert doctest.DocTestRunner().run(example).failed == 0, where
