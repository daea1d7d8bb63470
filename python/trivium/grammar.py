"""`GrammarMask`: allows exactly the tokens that keep the text in a language.

A grammar is compiled once and shared; each sequence has a `Matcher`. The masks are exact: a token
is allowed if and only if the text can still be completed after it, by every tokenisation.

The host's loop is ``fill`` (or ``apply``), sample, ``commit``. Under speculation the host shows
prefixes that go back and forth: ``sync`` takes any of them, ``fill_tree`` masks a whole draft tree.
"""

from __future__ import annotations

from trivium._grammar.arguments import Cancel
from trivium._grammar.batch import fill_batch
from trivium._grammar.cache import GrammarCache
from trivium._grammar.checkers import Monitor
from trivium._grammar.mask import GrammarMask
from trivium._grammar.matcher import Matcher
from trivium._grammar.phrases import Progress
from trivium._grammar.report import Explanation, GrammarReport, Refusal
from trivium._grammar.template import GrammarTemplate

__all__ = [
    "Cancel",
    "Explanation",
    "GrammarCache",
    "GrammarMask",
    "GrammarReport",
    "GrammarTemplate",
    "Matcher",
    "Monitor",
    "Progress",
    "Refusal",
    "fill_batch",
]

# The names that tracebacks, pickles and help() show are the public ones.
for _name in __all__:
    globals()[_name].__module__ = __name__
