"""User-supplied checkers: a callable beside a grammar, and monitors that list legal continuations.

Scholak et al., "PICARD: Parsing Incrementally for Constrained Auto-Regressive Decoding from
Language Models": a parser judges prefixes. Agrawal et al., "Guiding Language Models of Code with
Global Context using Monitors": where a trigger holds, static analysis lists the identifiers that
may follow.

A checker is shadow validation: it removes tokens and adds none. What ends passed both it and the
grammar, and nothing proves that a prefix which passed can be completed.
"""

from __future__ import annotations

import concurrent.futures
import re
from typing import TYPE_CHECKING, Self

from trivium._core import GrammarMask as CoreGrammarMask
from trivium._grammar.arguments import budgets_of, core_vocab, count
from trivium._grammar.compiled import Compiled
from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trivium._grammar.combination import Combinations
    from trivium.vocabulary import Vocabulary

__all__ = ["Checkers", "Monitor"]


class Checkers(Compiled):
    """The constructor of `trivium.GrammarMask` that takes a callable."""

    __slots__ = ()

    @classmethod
    def checker(
        cls,
        check: Callable[[bytes, bool], object],
        vocab: Vocabulary | None = None,
        *,
        grammar: Combinations | None = None,
        max_tests: int = 20_000,
    ) -> Self:
        """Make a grammar that a callable judges, alone or beside another grammar.

        Parameters
        ----------
        check : callable of (bytes, bool) to bool or None
            ``check(text, complete)``: whether the text may be gone on with, or, with `complete`,
            may end. None (unknown) does not forbid. Its answers must not change, and a text that it
            refuses must not begin one that it accepts. It is called with the interpreter's lock,
            from whatever thread fills a mask.
        vocab : Vocabulary, optional
            Whose tokens are masked; that of `grammar` if there is one.
        grammar : GrammarMask, optional
            What the texts must be, too; default any text. Its mask comes first, so only what it
            allows is tested.
        max_tests : int, optional
            Calls for one mask: `fill` tests every token the grammar allows, but none that begins
            with a refused one. Where these are many, use `Matcher.apply_top` (PICARD), or
            `trivium.constrained.awrs` for unbiased draws.

        Returns
        -------
        GrammarMask
            Its `report` says that dead ends are not ruled out. A matcher without any token left
            raises `DeadEnd`, whose ``rollback_to`` is the last place with another choice. It does
            not combine any further.

        Raises
        ------
        UnsupportedPattern
            `grammar` has a checker already.

        Examples
        --------
        >>> from trivium import GrammarMask, Vocabulary
        >>> vocab = Vocabulary([b"(", b")", b"a", b""], eos=[3])
        >>> def balanced(text, complete):
        ...     depth = text.count(b"(") - text.count(b")")
        ...     return depth == 0 if complete else depth >= 0
        >>> m = GrammarMask.checker(balanced, vocab).matcher()
        >>> [t for t in range(4) if m.allows(t)]
        [0, 2, 3]
        """
        if not callable(check):
            raise InputError(f"check: {type(check).__name__} is not callable")
        most = count("max_tests", max_tests, 1)
        if grammar is None:
            if vocab is None:
                raise InputError("vocab: needed without a grammar")
            base = CoreGrammarMask.regex("(?s:.)*", core_vocab(vocab), "rust", True, budgets_of({}))
        elif not isinstance(grammar, Compiled):
            raise InputError(f"grammar: {type(grammar).__name__} is not a GrammarMask")
        elif vocab is not None and vocab is not grammar.vocab:
            raise InputError("vocab: not that of the grammar")
        else:
            base, vocab = grammar._core, grammar.vocab
        return cls._wrap(base.checked_by(check, most), vocab)


class Monitor:
    """A checker that asks for the legal continuations wherever a trigger stands (monitors).

    Parameters
    ----------
    trigger : str or re.Pattern
        A text, or a pattern over text; behind each place where it ends a phase begins.
    propose : callable of str to iterable of str or None
        ``propose(text)``: what may stand behind a text that ends with the trigger, for example the
        members of the object before a dot. None: anything.
    word : str, optional
        Pattern of one character of the words proposed; the first other one ends the phase.
    timeout : float, optional
        Seconds for one call of `propose`; beyond it the phase is free, and counted in `timeouts`.
    max_memory : int, optional
        Phases whose words are kept.

    Attributes
    ----------
    timeouts : int
        Phases that are free because `propose` took too long.

    Examples
    --------
    >>> from trivium import GrammarMask, Vocabulary
    >>> vocab = Vocabulary([b"x.", b"app", b"end", b"ly", b";", b""], eos=[5])
    >>> monitor = Monitor(".", lambda text: ["append"])
    >>> m = GrammarMask.checker(monitor, vocab).matcher()
    >>> m.commit([0, 1])
    2
    >>> m.allows(2), m.allows(3), m.allows(4)
    (True, False, False)
    """

    def __init__(
        self,
        trigger: str | re.Pattern[str],
        propose: Callable[[str], Iterable[str] | None],
        *,
        word: str = r"\w",
        timeout: float | None = None,
        max_memory: int = 1_000,
    ) -> None:
        if isinstance(trigger, str):
            if not trigger:
                raise InputError("trigger: an empty text")
            trigger = re.compile(re.escape(trigger))
        if not callable(propose):
            raise InputError(f"propose: {type(propose).__name__} is not callable")
        self._trigger, self._propose = trigger, propose
        self._word = re.compile(f"(?:{word})*")
        self._timeout = timeout
        self._most = count("max_memory", max_memory, 1)
        self._known: dict[str, frozenset[str] | None] = {}
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self.timeouts = 0

    def __call__(self, text: bytes, complete: bool) -> bool:
        """Judge a text; see `GrammarMask.checker`."""
        decoded = text.decode(errors="ignore")  # an unfinished character says nothing yet
        at = 0
        while (found := self._trigger.search(decoded, at)) is not None:
            begin = found.end()
            match = self._word.match(decoded, begin)
            end = begin if match is None else match.end()
            words = self._words(decoded[:begin])
            if words is not None:
                given = decoded[begin:end]
                if end < len(decoded) or complete:
                    if given not in words:
                        return False
                elif not any(w.startswith(given) for w in words):
                    return False
            at = max(end, found.start() + 1)
        return True

    def _words(self, text: str) -> frozenset[str] | None:
        if text not in self._known:
            if len(self._known) >= self._most:
                self._known.pop(next(iter(self._known)))
            self._known[text] = self._ask(text)
        return self._known[text]

    def _ask(self, text: str) -> frozenset[str] | None:
        if self._timeout is None:
            words = self._propose(text)
        else:
            if self._pool is None:
                self._pool = concurrent.futures.ThreadPoolExecutor(1, "trivium-monitor")
            try:
                words = self._pool.submit(self._propose, text).result(self._timeout)
            except concurrent.futures.TimeoutError:
                # The call goes on by itself; the next one gets a thread of its own.
                self._pool.shutdown(wait=False)
                self._pool = None
                self.timeouts += 1
                return None
        return None if words is None else frozenset(words)
