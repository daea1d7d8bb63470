"""Input-dependent grammars: rules with named holes for lists that each request brings.

Geng et al., "Grammar-Constrained Decoding for Structured NLP Tasks without Finetuning", compile a
grammar for each input: candidate entities, columns of a table. ``@choices(name)`` in the rules is
such a hole.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, Unpack

from trivium._grammar.arguments import Budgets, core_vocab, raw_bytes
from trivium._grammar.cache import GrammarCache
from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trivium._grammar.mask import GrammarMask
    from trivium._grammar.matcher import Matcher
    from trivium.vocabulary import Vocabulary

__all__ = ["GrammarTemplate"]

# Texts, classes, patterns and comments are skipped; what is left of `@choices` is a hole.
_TOKENS = re.compile(
    r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|\[(?:[^\]\\\n]|\\.)*\]|(?://|\#)[^\n]*"""
    r"""|/(?:[^/\\\n]|\\.)+/|@choices\(\s*([A-Za-z_]\w*)\s*\)"""
)


class GrammarTemplate:
    """Rules with holes ``@choices(name)``, bound to lists of texts per input.

    Parameters
    ----------
    text : str
        As for `GrammarMask.grammar`; a hole stands where a text could.
    vocab : Vocabulary
    syntax : {"ebnf", "gbnf", "lark"}, optional
    start : str, optional
        As for `GrammarMask.grammar`.
    max_bytes_kept : int, optional
        Bytes of bound grammars that are kept for equal lists; the least recent go.
    **budgets
        As for `GrammarMask.regex`.

    Notes
    -----
    Binding costs compiling the rules and the lists, linear in both; equal lists share one grammar,
    with its states and masks, between matchers and threads.

    Examples
    --------
    >>> from trivium import GrammarMask, Vocabulary
    >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
    >>> text = 'root ::= "SELECT " @choices(column) " FROM " @choices(table)'
    >>> rules = GrammarTemplate(text, vocab)
    >>> rules.holes
    ('column', 'table')
    >>> g = rules.bind(column=["name", "age"], table=["people"])
    >>> g.matches("SELECT age FROM people"), g.matches("SELECT age FROM pets")
    (True, False)
    """

    def __init__(
        self,
        text: str,
        vocab: Vocabulary,
        *,
        syntax: Literal["ebnf", "gbnf", "lark"] = "ebnf",
        start: str | None = None,
        max_bytes_kept: int = 64 << 20,
        **budgets: Unpack[Budgets],
    ) -> None:
        if not isinstance(text, str):
            raise InputError(f"text: {type(text).__name__} is not str")
        core_vocab(vocab)
        self._pieces: list[str] = []
        names: list[str] = []
        at = 0
        for token in _TOKENS.finditer(text):
            if token[1] is not None:
                self._pieces.append(text[at : token.start()])
                names.append(token[1])
                at = token.end()
        self._pieces.append(text[at:])
        if not names:
            raise InputError("text: no @choices(name); use GrammarMask.grammar")
        self._names, self._vocab, self._budgets = names, vocab, budgets
        self._syntax: Literal["ebnf", "gbnf", "lark"] = syntax
        self._start = start
        self._cache = GrammarCache(max_bytes=max_bytes_kept)

    @property
    def holes(self) -> tuple[str, ...]:
        """Names of the holes, in the order of the rules, each once."""
        return tuple(dict.fromkeys(self._names))

    def bind(self, **lists: Iterable[str]) -> GrammarMask:
        """Fill every hole.

        Parameters
        ----------
        **lists : iterable of str
            By name: the texts that may stand in the hole. Equal texts count once, their order does
            not matter.

        Returns
        -------
        GrammarMask

        Raises
        ------
        InputError
            A hole without a list, a list without a hole, an empty list, an entry that is not text.
        InvalidGrammar, UnsupportedPattern, UnsatisfiableError, LimitExceeded
            As for `GrammarMask.grammar`; offsets are those of the bound text.
        """
        holes = set(self._names)
        if lists.keys() != holes:
            wrong = ", ".join(sorted(lists.keys() ^ holes))
            raise InputError(f"lists: {wrong}: the holes are {', '.join(self.holes)}")
        bound = {name: self._alternatives(name, texts) for name, texts in lists.items()}
        parts = [self._pieces[0]]
        for name, piece in zip(self._names, self._pieces[1:], strict=True):
            parts += [bound[name], piece]
        return self._cache.grammar(
            "".join(parts), self._vocab, syntax=self._syntax, start=self._start, **self._budgets
        )

    def matcher(self, **lists: Iterable[str]) -> Matcher:
        """Fill every hole and make a matcher; see `bind`."""
        return self.bind(**lists).matcher()

    def _alternatives(self, name: str, texts: Iterable[str]) -> str:
        if isinstance(texts, str):
            raise InputError(f"{name}: one str; a list of them is expected")
        found = set()
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"{name}: {type(text).__name__} is not str")
            raw_bytes(name, text)
            found.add(text)
        if not found:
            raise InputError(f"{name}: an empty list")
        return f"({' | '.join(_quoted(t) for t in sorted(found))})"


def _quoted(text: str) -> str:
    """Write a text as both syntaxes read it: everything but plain letters escaped."""
    return '"' + "".join(c if c.isascii() and c.isalnum() else _escaped(c) for c in text) + '"'


def _escaped(c: str) -> str:
    if c == " ":
        return c
    code = ord(c)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
