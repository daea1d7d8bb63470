"""A compiled grammar over one vocabulary, however it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from trivium._grammar.arguments import raw_bytes
from trivium._grammar.matcher import Matcher
from trivium._grammar.report import Explanation, GrammarReport
from trivium.errors import InputError

if TYPE_CHECKING:
    from trivium._core import GrammarMask as CoreGrammarMask
    from trivium._grammar.phrases import Phrases
    from trivium.vocabulary import Vocabulary

__all__ = ["Compiled"]


class Compiled:
    """What every grammar can do. Users see `trivium.GrammarMask`."""

    __slots__ = ("_core", "_phrases", "_vocab")

    _core: CoreGrammarMask
    _phrases: Phrases | None
    _vocab: Vocabulary

    def __init__(self) -> None:
        raise InputError("GrammarMask: use GrammarMask.regex, .choices or .json_schema")

    @classmethod
    def _wrap(cls, core: CoreGrammarMask, vocab: Vocabulary) -> Self:
        self = cls.__new__(cls)
        self._core, self._vocab, self._phrases = core, vocab, None
        return self

    @property
    def vocab(self) -> Vocabulary:
        """The vocabulary."""
        return self._vocab

    def matcher(self) -> Matcher:
        """Make a matcher at the empty text.

        Returns
        -------
        Matcher
        """
        return Matcher._wrap(self._core.matcher(), self)

    def matches(self, text: str | bytes) -> bool:
        """Say whether a whole text is in the language.

        Parameters
        ----------
        text : str or bytes

        Returns
        -------
        bool
        """
        return self._core.matches(raw_bytes("text", text))

    def explain(self, prefix: str | bytes) -> Explanation:
        """Say how far a text gets and what may follow.

        Parameters
        ----------
        prefix : str or bytes

        Returns
        -------
        Explanation

        Examples
        --------
        >>> from trivium import GrammarMask, Vocabulary
        >>> vocab = Vocabulary([b"a", b"b", b""], eos=[2])
        >>> GrammarMask.regex("a+b", vocab).explain("aac")
        Explanation(accepted=2, viable=False, accepting=False, next_bytes=[(97, 98)])
        """
        raw = raw_bytes("prefix", prefix)
        accepted, accepting, next_bytes = self._core.explain(raw)
        return Explanation(accepted, accepted == len(raw), accepting, next_bytes)

    def completion(self, prefix: str | bytes = b"") -> bytes | None:
        """Find a shortest text of the language that begins with `prefix`.

        Parameters
        ----------
        prefix : str or bytes, optional

        Returns
        -------
        bytes or None
            None if no text begins so, or all that do hold special tokens.
        """
        return self._core.completion(raw_bytes("prefix", prefix))

    def report(self) -> GrammarReport:
        """Report guarantees and sizes.

        Returns
        -------
        GrammarReport
        """
        return GrammarReport(**self._core.report())

    def __repr__(self) -> str:
        report = self.report()
        return f"GrammarMask({report.kind}, {report.states} states, {report.masks} masks)"
