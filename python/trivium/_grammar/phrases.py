"""How far a text has come with the phrases that it must hold.

For beam search under lexical constraints: Hokamp and Liu, "Lexically Constrained Decoding for
Sequence Generation Using Grid Beam Search", and Post and Vilar, "Fast Lexically Constrained
Decoding with Dynamic Beam Allocation for Neural Machine Translation", sort hypotheses into banks by
the number of constraint tokens they hold.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trivium.vocabulary import Vocabulary

__all__ = ["Phrases", "Progress"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a text stands, from `Matcher.progress`.

    Attributes
    ----------
    bank : int
        Tokens of phrases that the text holds: all of each phrase that is done, and those of the
        phrase it is inside of, each by longest match.
    total : int
        Tokens of the cheapest phrase of each group: the bank at which all may be done.
    done : tuple of bool
        By group of ``must``: whether one of its phrases occurs.
    inside : str
        The longest beginning of a phrase of an open group with which the text ends.
    rest : str
        What is missing of the shortest such phrase.
    """

    bank: int
    total: int
    done: tuple[bool, ...]
    inside: str
    rest: str


class Phrases:
    """The groups of phrases of a grammar, and their tokens."""

    def __init__(
        self, groups: list[list[str]], vocab: Vocabulary, *, ignore_case: bool, whole_words: bool
    ) -> None:
        self.groups = groups
        flags = re.IGNORECASE if ignore_case else 0
        edge = (r"(?<!\w)", r"(?!\w)") if whole_words else ("", "")
        self.patterns = [
            [
                re.compile(
                    (edge[0] if re.match(r"\w", p) else "")
                    + re.escape(p)
                    + (edge[1] if re.search(r"\w\Z", p) else ""),
                    flags,
                )
                for p in group
            ]
            for group in groups
        ]
        self.fold = str.casefold if ignore_case else str
        self.vocab = vocab

    @functools.cached_property
    def texts(self) -> set[bytes]:
        """Texts of tokens; one pass over the vocabulary, at the first call."""
        vocab, special = self.vocab, set(self.vocab.eos) | set(self.vocab.special)
        return {vocab.token(t) for t in range(len(vocab)) if t not in special} - {b""}

    @functools.cached_property
    def longest(self) -> int:
        """Bytes of the longest token."""
        return max(map(len, self.texts), default=1)

    @functools.cached_property
    def total(self) -> int:
        """See `Progress`."""
        return sum(min(map(self.count, group)) for group in self.groups)

    def count(self, text: str) -> int:
        """Tokens of a text by longest match; bytes that no token spells count one each."""
        raw, at, n = text.encode(), 0, 0
        while at < len(raw):
            most = min(self.longest, len(raw) - at)
            at += next((k for k in range(most, 1, -1) if raw[at : at + k] in self.texts), 1)
            n += 1
        return n

    def progress(self, raw: bytes) -> Progress:
        """See `Progress`; O(text)."""
        text = raw.decode(errors="ignore")
        bank, done, open_phrases = 0, [], []
        for group, patterns in zip(self.groups, self.patterns, strict=True):
            found = [self.count(p) for p, x in zip(group, patterns, strict=True) if x.search(text)]
            done.append(bool(found))
            bank += max(found, default=0)
            if not found:
                open_phrases += group
        folded = self.fold(text)
        inside = rest = ""
        for phrase in open_phrases:
            whole = self.fold(phrase)
            n = next((n for n in range(len(whole) - 1, 0, -1) if folded.endswith(whole[:n])), 0)
            if n > len(inside) or (n == len(inside) > 0 and len(whole) - n < len(rest)):
                inside, rest = whole[:n], whole[n:]
        return Progress(bank + self.count(inside), self.total, tuple(done), inside, rest)
