r"""RPG: a penalty on what would repeat the structure of the text once more.

Dong et al., "Rethinking Repetition Problems of LLMs in Code Generation".

Code repeats itself structurally: the same statements with other names. Two detectors look at the
text after every token and name the token that would begin one more repetition, with a count `n`:

*literal*     the shortest `r` such that the last `r` tokens equal the `r` before them; `n` is the
              number of equal blocks before the last, the token is the first of the block.
*structural*  lexemes are mapped to their types (names, numbers, strings; keywords and operators
              stay themselves), line by line; the shortest period of lines at the end. The token is
              the one that began the unit; `n` counts how often the unit was repeated.

The token's log-probability is lowered by ``n log(1 / decay)`` and the row renormalised; if it is
one of `starters`, the end of sequence is raised by ``n log(1 / end_decay)``. The published code
multiplies raw logits by ``decay ** n``, which raises negative ones; on log-probabilities it is a
penalty always.

Cost: O(`max_tokens` + `max_lines`) a token, kept as how far the end of the text agrees with itself
shifted by each `r`.
"""

from __future__ import annotations

import keyword
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trivium.constrained._chance import at_least, log_softmax
from trivium.errors import InputError, StateError, TokenError
from trivium.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

    from numpy.typing import NDArray

__all__ = ["PYTHON_LEXEMES", "Repetition", "StructuralPenalty"]

PYTHON_LEXEMES: tuple[tuple[str | None, str], ...] = (
    ("comment", r"#[^\n]*"),
    ("string", r"[rbuf]{0,2}(?:\"\"\"(?:.|\n)*?\"\"\"|'''(?:.|\n)*?'''|\"[^\"\n]*\"|'[^'\n]*')"),
    ("number", r"\d[\w.]*"),
    (None, rf"(?:{'|'.join(keyword.kwlist)})\b"),
    ("name", r"[^\W\d]\w*"),
    (None, r"[^\w\s]"),
)
"""Types of the lexemes of Python, with patterns; None keeps the text itself."""


class Repetition(NamedTuple):
    """A token that would begin one more repetition.

    Attributes
    ----------
    token : int
    times : int
        Repetitions so far.
    kind : str
        ``"literal"`` or ``"structural"``.
    """

    token: int
    times: int
    kind: str


class _Periods:
    """How far the end of a sequence agrees with itself, shifted by each length up to a bound."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.items: list[int] = []
        self.agree = np.zeros(longest + 1, np.int64)

    def push(self, item: int) -> None:
        n = min(self.longest, len(self.items))
        if n:
            before = np.array(self.items[-1 : -n - 1 : -1])  # shifted by 1, 2, .., n
            here = self.agree[1 : n + 1]
            here += 1
            here[before != item] = 0
        self.items.append(item)

    def shortest(self) -> tuple[int, int] | None:
        """Shortest `r` whose last block equals the one before, and how many blocks before do."""
        r = np.flatnonzero(self.agree[1:] >= np.arange(1, self.longest + 1))
        if not len(r):
            return None
        period = int(r[0]) + 1
        return period, int(self.agree[period]) // period

    def copy(self) -> _Periods:
        other = _Periods(self.longest)
        other.items, other.agree = list(self.items), self.agree.copy()
        return other


class StructuralPenalty:
    r"""The penalty of one sequence.

    Parameters
    ----------
    vocab : Vocabulary
    lexemes : sequence of (str or None, str), optional
        Types and patterns, tried in order at each place; None keeps the text itself. Default: those
        of Python.
    decay : float, optional
        Factor of a token's probability for every repetition.
    end_decay : float, optional
        One over the factor of the end of sequence, if the token is one of `starters`.
    starters : iterable of int, optional
        Tokens that begin lines.
    max_tokens, max_lines : int, optional
        Longest literal and structural unit.

    Examples
    --------
    >>> from trivium import Vocabulary
    >>> vocab = Vocabulary([b"x", b"y", b" = 1\n", b" = 2\n", b""], eos=[4])
    >>> penalty = StructuralPenalty(vocab)
    >>> penalty.commit([0, 2, 1, 3])
    >>> penalty.found()
    [Repetition(token=1, times=1, kind='structural')]
    """

    __slots__ = (
        "_decay",
        "_end_decay",
        "_lexer",
        "_line",
        "_lines",
        "_met",
        "_names",
        "_pending",
        "_starters",
        "_starts",
        "_tokens",
        "_vocab",
    )  # fmt: skip

    def __init__(
        self,
        vocab: Vocabulary,
        *,
        lexemes: Sequence[tuple[str | None, str]] = PYTHON_LEXEMES,
        decay: float = 0.9,
        end_decay: float = 0.8,
        starters: Iterable[int] = (),
        max_tokens: int = 128,
        max_lines: int = 32,
    ) -> None:
        if not isinstance(vocab, Vocabulary):
            raise InputError(f"vocab: {type(vocab).__name__} is no Vocabulary")
        for name, value in (("decay", decay), ("end_decay", end_decay)):
            if not 0.0 < value <= 1.0:
                raise InputError(f"{name}: {value!r} is not in (0, 1]")
        try:
            groups = [f"(?P<g{i}>{pattern})" for i, (_, pattern) in enumerate(lexemes)]
            self._lexer = re.compile("|".join(groups))
        except (re.error, TypeError, ValueError) as e:
            raise InputError(f"lexemes: {e}") from None
        self._names = [name for name, _ in lexemes]
        self._vocab = vocab
        self._decay, self._end_decay = math.log(decay), math.log(end_decay)
        self._starters = frozenset(int(t) for t in starters)
        self._tokens = _Periods(at_least("max_tokens", max_tokens, 1))
        self._lines = _Periods(at_least("max_lines", max_lines, 1))
        self._line: dict[tuple[str, ...], int] = {}
        self._starts: list[int] = []  # first token of each complete line
        self._met: dict[tuple[int, ...], int] = {}
        self._pending: tuple[bytes, int] = (b"", 0)  # the open line, and its first token's index

    def __len__(self) -> int:
        """Count the tokens held."""
        return len(self._tokens.items)

    def commit(self, tokens: int | Sequence[int]) -> None:
        """Add tokens.

        Raises
        ------
        TokenError
            An id outside the vocabulary; nothing changes.
        """
        ids = [tokens] if isinstance(tokens, int | np.integer) else list(tokens)
        for t in ids:
            if not 0 <= t < len(self._vocab):
                raise TokenError(f"token {t} is outside the vocabulary of {len(self._vocab)}")
        for t in ids:
            self._push(int(t))

    def rollback(self, n: int) -> None:
        """Take back the last `n` tokens; costs reading the others again.

        Raises
        ------
        StateError
            Fewer are held.
        """
        if not 0 <= n <= len(self):
            raise StateError(f"rollback: {n} tokens, {len(self)} are held")
        kept = self._tokens.items[: len(self) - n]
        self.reset()
        self.commit(kept)

    def sync(self, tokens: Sequence[int]) -> None:
        """Make the text exactly `tokens`."""
        ids = [int(t) for t in tokens]
        held = self._tokens.items
        common = next((i for i, (a, b) in enumerate(zip(held, ids, strict=False)) if a != b), None)
        common = min(len(held), len(ids)) if common is None else common
        if common < len(held):
            self.rollback(len(held) - common)
        self.commit(ids[common:])

    def reset(self) -> None:
        """Go back to the empty text."""
        self._tokens = _Periods(self._tokens.longest)
        self._lines = _Periods(self._lines.longest)
        self._starts, self._met, self._pending = [], {}, (b"", 0)

    def fork(self) -> Self:
        """Make an independent copy."""
        other = type(self).__new__(type(self))
        for name in StructuralPenalty.__slots__:
            setattr(other, name, getattr(self, name))
        other._tokens, other._lines = self._tokens.copy(), self._lines.copy()
        other._starts, other._met = list(self._starts), dict(self._met)
        return other

    def found(self) -> list[Repetition]:
        """Name the tokens that would begin one more repetition now.

        Returns
        -------
        list of Repetition
            At most one of each kind; the structural one where a line has just ended.
        """
        out = []
        literal = self._tokens.shortest()
        if literal is not None:
            period, count = literal
            out.append(Repetition(self._tokens.items[-period], count, "literal"))
        if not self._pending[0]:
            lines = self._lines.shortest()
            if lines is not None:
                unit = tuple(self._lines.items[-lines[0] :])
                start = self._starts[-lines[0]]
                out.append(Repetition(self._tokens.items[start], self._met[unit], "structural"))
        return out

    def apply(self, logits: Any) -> NDArray[np.float64]:
        """Penalise a row.

        Parameters
        ----------
        logits : float array, shape (V,)
            The model's row behind the tokens held.

        Returns
        -------
        float64 array, shape (V,)
            Log-probabilities.

        Raises
        ------
        InputError
            Shape, NaN.
        """
        row = log_softmax(logits)
        if row.ndim != 1 or len(row) < len(self._vocab):
            raise InputError(f"logits: shape {row.shape}, needs ({len(self._vocab)},) or more")
        changed = False
        for token, times, _ in self.found():
            row[token] += times * self._decay
            if token in self._starters:
                row[self._vocab.eos] -= times * self._end_decay
            changed = True
        return log_softmax(row) if changed else row

    def _push(self, token: int) -> None:
        index = len(self)
        self._tokens.push(token)
        text, first = self._pending
        text += self._vocab.token(token)
        *complete, rest = text.split(b"\n")
        for line in complete:
            self._end_line(line.decode(errors="replace"), first)
            first = index  # what follows within the same token
        self._pending = (rest, first if rest else index + 1)

    def _end_line(self, line: str, first: int) -> None:
        types = tuple(
            self._names[int(m.lastgroup[1:])] or m[0]
            for m in self._lexer.finditer(line)
            if m.lastgroup is not None
        )
        if not types:
            return  # blank lines separate nothing
        self._lines.push(self._line.setdefault(types, len(self._line)))
        self._starts.append(first)
        found = self._lines.shortest()
        if found is not None:
            unit = tuple(self._lines.items[-found[0] :])
            self._met[unit] = self._met.get(unit, 0) + 1
