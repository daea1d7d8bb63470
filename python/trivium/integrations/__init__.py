"""Adapters to serving stacks; each module imports its stack when it is first used.

==============  ===============================================================================
`transformers`  `generate`: the reference host loop around any causal language model
==============  ===============================================================================
"""

from __future__ import annotations

__all__ = ["transformers"]


def __getattr__(name: str) -> object:
    if name in __all__:
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
