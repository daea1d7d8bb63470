"""What a grammar guarantees and holds, and how far a text gets."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Explanation", "GrammarReport", "Refusal"]


@dataclass(frozen=True, slots=True)
class GrammarReport:
    """What a grammar guarantees and what it holds.

    Attributes
    ----------
    kind : str
        The front end, for example ``"regex"``, ``"choices"``, ``"and"``.
    sound : bool
        S: every text that ends with an allowed end token is in the language.
    complete : bool
        C: every text of the language is reachable, by every tokenisation.
    no_dead_end : bool
        D: from every reachable state a finite completion exists in tokens. False if the vocabulary
        lacks single bytes, so that a completion may exist that no tokens spell.
    relaxed : list of str
        What was weakened; always empty for regular expressions.
    warnings : list of str
        What the user should know.
    states, expanded, automaton_bytes : int
        Automaton states made so far, those left at least once, bytes held.
    masks, mask_bytes : int
        Masks kept, and their bytes.
    slices, slice_bytes : int
        Shared parts of masks that this vocabulary keeps for all grammars, and their bytes.
    """

    kind: str
    sound: bool
    complete: bool
    no_dead_end: bool
    relaxed: list[str]
    warnings: list[str]
    states: int
    expanded: int
    automaton_bytes: int
    masks: int
    mask_bytes: int
    slices: int
    slice_bytes: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """How far a text gets.

    Attributes
    ----------
    accepted : int
        Bytes read before the first that no text of the language has there.
    viable : bool
        Whether the whole prefix was read.
    accepting : bool
        Whether the part read is a complete text.
    next_bytes : list of (int, int)
        Closed ranges of bytes that may follow the part read.
    """

    accepted: int
    viable: bool
    accepting: bool
    next_bytes: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a token is refused, from `Matcher.why`.

    Attributes
    ----------
    token : int
    text : bytes
        Its bytes; empty for special tokens and padding.
    allowed : bool
        Whether it is allowed after all; the rest then says nothing.
    cause : str
    at : int
        Byte of `text` that nothing in the language has there.
    next_bytes : list of (int, int)
        Closed ranges of bytes that may stand there.
    may_end : bool
        Whether the text may end there.
    """

    token: int
    text: bytes
    allowed: bool
    cause: str
    at: int
    next_bytes: list[tuple[int, int]]
    may_end: bool

    def __str__(self) -> str:
        """One line for people."""
        name = f"token {self.token} {self.text!r}"
        if self.allowed:
            return f"{name} is allowed"
        choices = [_shown(a, b) for a, b in self.next_bytes]
        if self.may_end:
            choices.append("the end")
        there = f": allowed there are {' or '.join(choices)}" if choices else ""
        if self.at < len(self.text):
            byte = self.text[self.at : self.at + 1]
            return f"{name} is refused at its byte {self.at}, {byte!r}{there}"
        return f"{name} is refused: {self.cause}{there}"


def _shown(a: int, b: int) -> str:
    first, last = bytes([a]), bytes([b])
    return f"{first!r}" if a == b else f"{first!r} to {last!r}"
