"""Answer grammars: where the answer stands, and which key reads it, follow from one rule.

The text is ``reasoning prefix answer suffix``: free reasoning that does not contain the prefix, the
prefix, an answer of a declared type. As a `GrammarMask` it makes abstentions impossible except by
length; the automaton of the answer marks its span, so that nothing has to be searched for; and the
type selects the voter's key.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from trivium.errors import InputError
from trivium.grammar import GrammarMask
from trivium.voter import Voter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trivium.vocabulary import Vocabulary

__all__ = ["AnswerGrammar", "AnswerSpan"]

_WHOLE = r"-?(?:0|[1-9][0-9]{0,17})"
_KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "integer": (_WHOLE, "number", {}),
    "number": (_WHOLE + r"(?:\.[0-9]{1,18}|/[1-9][0-9]{0,17})?", "number", {}),
    "bool": ("(?:[Yy]es|[Nn]o|[Tt]rue|[Ff]alse)", "bool", {}),
    "date": (r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])", "date", {}),
}


class AnswerSpan(NamedTuple):
    """Where an answer stands in a text.

    Attributes
    ----------
    start, end : int
        Offsets in characters.
    closed : bool
        Whether no further character could extend it: something follows, or the type ends there.
    """

    start: int
    end: int
    closed: bool


class AnswerGrammar:
    r"""A grammar of texts that end in an answer of a declared type.

    Parameters
    ----------
    answer : {"integer", "number", "bool", "date"}, list of str, or str
        The type; a list of allowed texts; or, with `key`, a regular expression.
    vocab : Vocabulary
        Whose tokens are masked.
    prefix : str
        What precedes the answer. Its first character must not occur in it again.
    suffix : str
        Regular expression of what may follow the answer.
    letters : str, optional
        In place of `answer`: one of these letters, for multiple choice.
    key : str, optional
        The voter's key, for a regular expression.
    **limits
        Of `GrammarMask.regex`.

    Attributes
    ----------
    mask : GrammarMask
        The whole text, for the matcher.
    key : str
        The voter's key.
    key_options : dict
        Its options.

    Raises
    ------
    InputError
        A prefix that is empty or whose first character recurs, an unknown type.

    Examples
    --------
    >>> from trivium import Vocabulary
    >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
    >>> g = AnswerGrammar("integer", vocab, prefix="Answer: ")
    >>> g.key, g.answer("3 + 4 is 7. Answer: 7.")
    ('number', '7')
    >>> g.mask.matches("so Answer: 7"), g.mask.matches("so Answer: x")
    (True, False)
    """

    __slots__ = ("_answer", "key", "key_options", "mask", "prefix")

    def __init__(
        self,
        answer: str | Sequence[str] = "number",
        vocab: Vocabulary | None = None,
        *,
        prefix: str = "The answer is ",
        suffix: str = r"\.?\s?",
        letters: str | None = None,
        key: str | None = None,
        **limits: Any,
    ) -> None:
        if vocab is None:
            raise InputError("vocab: is missing")
        if not isinstance(prefix, str) or not prefix or prefix[0] in prefix[1:]:
            raise InputError(
                f"prefix: {prefix!r} is empty or repeats its first character, so that its first "
                "occurrence is not known from the text before it"
            )
        pattern, self.key, self.key_options = _answer_of(answer, letters, key)
        self.prefix = prefix
        whole = f"{_without(prefix)}{re.escape(prefix)}(?:{pattern})(?:{suffix})"
        self.mask = GrammarMask.regex(whole, vocab, **limits)
        self._answer = GrammarMask.regex(pattern, vocab, **limits)

    def voter(self, **options: Any) -> Voter:
        """Make a `Voter` with the key of this grammar; other arguments are the voter's."""
        return Voter(self.key, key_options=self.key_options, **options)

    def span(self, text: str) -> AnswerSpan | None:
        """Span of the answer in a text, finished or not; None where it has not begun.

        Linear in the reasoning, quadratic in the answer.
        """
        at = text.find(self.prefix)
        if at < 0:
            return None
        start = at + len(self.prefix)
        rest = text[start : start + 4096]
        read = self._answer.explain(rest).accepted
        end = len(rest.encode()[:read].decode("utf-8", "ignore"))
        while end > 0:
            seen = self._answer.explain(rest[:end])
            if seen.accepting and seen.viable:
                closed = start + end < len(text) or not seen.next_bytes
                return AnswerSpan(start, start + end, closed)
            end -= 1
        return None

    def answer(self, text: str, *, cut: bool = False) -> str | None:
        """Answer in a text.

        With `cut` the text met a length limit: an answer that more characters could extend does
        not count then.
        """
        span = self.span(text)
        if span is None or (cut and not span.closed):
            return None
        return text[span.start : span.end]


def _answer_of(
    answer: str | Sequence[str], letters: str | None, key: str | None
) -> tuple[str, str, dict[str, Any]]:
    if letters is not None:
        if not letters.isascii() or not letters.isalpha():
            raise InputError(f"letters: {letters!r} are not ASCII letters")
        return f"[{letters}]", "choice", {"letters": letters.upper()}
    if not isinstance(answer, str):
        texts = list(answer)
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise InputError("answer: needs texts that are not empty")
        return "|".join(map(re.escape, texts)), key or "text", {}
    if key is not None:
        return answer, key, {}
    if answer not in _KINDS:
        names = ", ".join(_KINDS)
        raise InputError(f"answer: {answer!r} is unknown; choose one of {names}, or give key=")
    return _KINDS[answer]


def _without(prefix: str) -> str:
    """Texts in which `prefix` does not begin to occur in full, up to where it does.

    The first character `T` occurs once in the prefix, so an attempt that fails may begin anew only
    at a `T`: chains of partial attempts, each ended by a `T` or by a character that belongs to
    neither.
    """
    if len(prefix) == 1:
        return f"[^{_in_class(prefix)}]*"
    parts = [re.escape(prefix[:i]) for i in range(1, len(prefix))]
    failed = [
        f"{part}[^{_in_class(prefix[0])}{_in_class(prefix[i + 1])}]" for i, part in enumerate(parts)
    ]
    chain = f"(?:{'|'.join(parts)})*"
    return f"(?:[^{_in_class(prefix[0])}]|{chain}(?:{'|'.join(failed)}))*{chain}"


def _in_class(char: str) -> str:
    return "\\" + char if char in "\\]^-[&~" else char
