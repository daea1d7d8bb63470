"""One sequence under a grammar."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np

from trivium._grammar.arguments import count, token_id, token_ids
from trivium._grammar.stable import stable_tokens
from trivium._grammar.top import apply_top
from trivium._grammar.why import refusal_of
from trivium.errors import InputError, StateError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from trivium._core import Matcher as CoreMatcher
    from trivium._grammar.compiled import Compiled
    from trivium._grammar.phrases import Progress
    from trivium._grammar.report import Refusal

__all__ = ["Matcher"]


class Matcher:
    """One sequence under a grammar: what was committed, and what may come next.

    Made by `GrammarMask.matcher`. Committing never fails half-way: after an exception the matcher
    is as it was. Two threads on one matcher at a time get `StateError`; forks are independent.

    Notes
    -----
    After an end-of-sequence token the matcher is *finished*: rows are all zero and `commit` is
    False until `rollback`, `sync` or `reset`. After `sync` was shown a token that the grammar does
    not allow it is *dead* from there on: rows are all zero, the tokens still count in ``len``.
    """

    __slots__ = ("_core", "_grammar", "_kept")

    _core: CoreMatcher
    _grammar: Compiled
    _kept: dict[int, float]

    def __init__(self) -> None:
        raise InputError("Matcher: use GrammarMask.matcher()")

    @classmethod
    def _wrap(cls, core: CoreMatcher, grammar: Compiled) -> Self:
        self = cls.__new__(cls)
        self._core, self._grammar, self._kept = core, grammar, {}
        return self

    def __len__(self) -> int:
        return len(self._core)

    @property
    def tokens(self) -> NDArray[np.int32]:
        """The tokens held, int32; a copy."""
        return self._core.tokens()

    @property
    def words(self) -> int:
        """Words of a mask row: ``ceil(vocab.num_rows / 32)``."""
        return self._core.words()

    @property
    def dead_at(self) -> int | None:
        """Index of the first token that the grammar does not allow, if `sync` met one."""
        return self._core.dead_at()

    @property
    def state_id(self) -> int | None:
        """A number for what may follow; None under a checker and on a dead matcher.

        Matchers of one grammar whose numbers are equal go on alike, whatever their texts, and a
        number is never given to anything else in this process. States may be split finer than
        need be: unequal numbers say nothing.
        """
        return self._core.state_id()

    def is_accepting(self) -> bool:
        """Say whether the text so far is in the language.

        Returns
        -------
        bool
            True exactly where end-of-sequence ids are allowed, and after one was committed.
        """
        return self._core.is_accepting()

    def is_finished(self) -> bool:
        """Say whether an end-of-sequence token was committed.

        Returns
        -------
        bool
        """
        return self._core.is_finished()

    @overload
    def commit(self, tokens: int | np.integer[Any]) -> bool: ...
    @overload
    def commit(self, tokens: Sequence[int] | NDArray[Any]) -> int: ...
    def commit(self, tokens: Any) -> bool | int:
        """Advance by one token, or by several.

        Parameters
        ----------
        tokens : int, or int array, shape (n,)
            Ids below the logits width.

        Returns
        -------
        bool or int
            For one token: whether it was allowed (if not, nothing changes). For several: how many
            were accepted; it stops before the first that is not allowed.

        Raises
        ------
        TokenError
            An id outside the logits; nothing changes.
        LimitExceeded
            A budget of the grammar; nothing changes.
        """
        if type(tokens) is int:
            return self._core.commit_one(token_id(tokens))
        try:
            one = operator.index(tokens)
        except TypeError:
            return self._core.commit_many(token_ids(tokens))
        return self._core.commit_one(token_id(one))

    def rollback(self, n: int) -> None:
        """Take back the last `n` tokens; any number, at no cost that depends on the grammar.

        Parameters
        ----------
        n : int

        Raises
        ------
        StateError
            Fewer tokens are held; nothing changes.
        """
        number = count("n", n, 0)
        self._core.rollback(number)
        self._forget(len(self))

    def sync(self, tokens: Sequence[int] | NDArray[Any]) -> int:
        """Make the matcher stand after exactly `tokens`.

        Rolls back to the longest common prefix and extends: work only for the difference. Tokens
        that are not allowed are no error, since hosts show drafts before they are verified.

        Parameters
        ----------
        tokens : int array, shape (n,)
            All generated tokens of the sequence, without the prompt.

        Returns
        -------
        int
            How many leading tokens the grammar allows; `n` unless the matcher is dead now.

        Raises
        ------
        TokenError, LimitExceeded
            As for `commit`; nothing changes.
        """
        if not self._kept:
            return self._core.sync(token_ids(tokens))
        before = self.tokens
        allowed = self._core.sync(token_ids(tokens))
        after = self.tokens
        common = min(len(before), len(after))
        changed = (before[:common] != after[:common]).nonzero()[0]
        self._forget(int(changed[0]) if len(changed) else common)
        return allowed

    def fork(self) -> Self:
        """Make an independent copy, for a beam or a sibling sample.

        Returns
        -------
        Matcher
        """
        copy = self._wrap(self._core.fork(), self._grammar)
        copy._kept = dict(self._kept)
        return copy

    def reset(self) -> None:
        """Go back to the empty text."""
        self._core.reset()
        self._kept = {}

    def allows(self, token: int) -> bool:
        """Say whether a token may come next.

        Parameters
        ----------
        token : int

        Returns
        -------
        bool
        """
        return self._core.allows(token_id(token))

    def validate(self, tokens: Sequence[int] | NDArray[Any]) -> int:
        """Say how many of `tokens` could be committed, without committing them.

        Parameters
        ----------
        tokens : int array, shape (n,)

        Returns
        -------
        int
        """
        return self._core.validate(token_ids(tokens))

    def fill(self, row: Any) -> bool:
        """Write the packed row of allowed tokens.

        Parameters
        ----------
        row : int32 array, shape (words,) or (1, words), C-contiguous, on the CPU
            Written completely: bit ``t % 32`` of word ``t // 32`` is 1 iff token ``t`` is allowed.
            A longer row is filled up with zeros.

        Returns
        -------
        bool
            Whether any token is allowed; False on a finished or dead matcher.

        Raises
        ------
        InputError
            Another dtype, device or layout, a row that is too short or read-only.
        LimitExceeded
            A budget of the grammar.

        Examples
        --------
        >>> import numpy as np
        >>> from trivium import GrammarMask, Vocabulary
        >>> vocab = Vocabulary([b"a", b"b", b"ab", b""], eos=[3])
        >>> row = np.empty(1, np.int32)
        >>> GrammarMask.regex("a*b", vocab).matcher().fill(row), int(row[0])
        (True, 7)
        """
        return self._core.fill(row)

    def apply(self, logits: Any) -> float:
        """Forbid tokens in a row of logits, in place.

        Parameters
        ----------
        logits : float16, bfloat16, float32 or float64 array, shape (num_rows,) or (1, num_rows)
            Forbidden tokens become minus infinity; so does everything beyond the vocabulary. A
            CUDA array is masked on its device, on its library's current stream.

        Returns
        -------
        float
            Natural log of the probability that was kept; ``-inf`` if nothing was. `logw` adds
            these up. Within 1e-4 of the host's on a device.

        Raises
        ------
        InputError
            A short row, a NaN or a plus infinity; the row is then unchanged.
        """
        kept = self._core.apply(logits)
        self._kept[len(self)] = kept
        return kept

    @property
    def logw(self) -> float:
        """Sum of what `apply` returned at the tokens' positions, 0 where it was not used.

        The log importance weight of a text drawn from the masked laws: the model's probability of
        the text over the probability of drawing it so.
        """
        return sum(kept for at, kept in self._kept.items() if at < len(self))

    def _forget(self, length: int) -> None:
        """Drop the masses of positions behind the first `length` tokens."""
        if self._kept:
            self._kept = {at: kept for at, kept in self._kept.items() if at <= length}

    def forced_bytes(self) -> bytes:
        """Tell the bytes every completion begins with, at most 4,096 of them.

        Returns
        -------
        bytes
            Empty where the text may end or goes on in more than one way.

        Raises
        ------
        StateError
            The matcher is dead.
        """
        return self._core.forced_bytes()

    def is_forced(self) -> bool:
        """Say whether every completion goes on with the same byte.

        Returns
        -------
        bool

        Raises
        ------
        StateError
            The matcher is dead.
        """
        return len(self._core.forced_bytes()) > 0

    def forced_tokens(
        self,
        mode: Literal["draft", "stable"] = "draft",
        *,
        encode: Callable[[bytes], Sequence[int]] | None = None,
        tail: int = 32,
    ) -> NDArray[np.int32]:
        """Propose tokens for the forced bytes.

        Parameters
        ----------
        mode : {"draft", "stable"}, optional
            ``"draft"``: a chain to be verified against the masked law, which leaves the output's
            distribution as it is. ``"stable"``: tokens to commit without the model; the
            distribution over tokenisations is then that of `encode`, not the model's.
        encode : callable of bytes to sequence of int, optional
            The tokenizer's canonical encoder without special tokens; ``"stable"`` needs it.
        tail : int, optional
            Bytes of the text before that `encode` sees, at a token's beginning: as far as merges
            reach across it.

        Returns
        -------
        int32 array, shape (n,)
            ``"draft"``: longest match first, up to the first boundary that a longer allowed token
            could cross. ``"stable"``: the canonical tokens up to there; none where the canonical
            encoding would change tokens that are already committed.

        Raises
        ------
        UnsupportedError
            ``"stable"`` without `encode`.
        InputError
            `encode` returns ids that do not spell the text.
        StateError
            The matcher is dead.
        """
        if mode == "draft":
            return self._core.forced_tokens()
        if mode != "stable":
            raise InputError(f'mode: {mode!r} is not "draft" or "stable"')
        if encode is None:
            raise UnsupportedError(
                'forced_tokens(mode="stable") needs encode=, the tokenizer\'s encoder of bytes'
            )
        forced, open_at = self._core.forced_edges()
        return stable_tokens(self._grammar.vocab, self.tokens, forced, open_at, encode, tail)

    def why(self, token: int) -> Refusal:
        """Say why a token is refused.

        Parameters
        ----------
        token : int

        Returns
        -------
        Refusal

        Raises
        ------
        TokenError
            An id outside the logits.

        Examples
        --------
        >>> from trivium import GrammarMask, Vocabulary
        >>> vocab = Vocabulary([b"a", b"b", b"ab", b""], eos=[3])
        >>> print(GrammarMask.regex("a+", vocab).matcher().why(2))
        token 2 b'ab' is refused at its byte 1, b'b': allowed there are b'a' or the end
        """
        return refusal_of(self, self._grammar, token_id(token))

    def progress(self) -> Progress:
        """Say which phrases the text holds, for beam search; of `GrammarMask.phrases` only.

        Returns
        -------
        Progress

        Raises
        ------
        UnsupportedError
            The grammar is none of phrases.
        """
        phrases = self._grammar._phrases
        if phrases is None:
            raise UnsupportedError("progress: only a grammar of GrammarMask.phrases has phrases")
        return phrases.progress(self._grammar.vocab.decode(self._text_tokens()))

    def apply_top(self, logits: Any, k: int = 2, *, timeout: float | None = None) -> list[int]:
        """Keep the `k` most probable allowed tokens and forbid the others, in place (PICARD).

        Tokens are tested in order of their logits until `k` were allowed, which is cheap under a
        checker where `fill` would have to test every token. It truncates the law; for unbiased
        draws use `trivium.constrained.awrs`.

        Parameters
        ----------
        logits : float array, shape (num_rows,), on the CPU, writable
        k : int, optional
        timeout : float, optional
            Seconds for this call; what was not tested by then is forbidden.

        Returns
        -------
        list of int
            The tokens kept, most probable first; fewer than `k` if no more are allowed or the time
            was up.

        Raises
        ------
        DeadEnd
            None is allowed, or none was found in time; the row is then unchanged.
        InputError
            Shape, dtype, NaN.
        """
        return apply_top(self, logits, k, timeout)

    def _text_tokens(self) -> NDArray[np.int32]:
        ends = self._grammar.vocab.eos
        return self.tokens[~np.isin(self.tokens, ends)]

    def fill_tree(self, parents: Any, tokens: Any, out: Any) -> NDArray[np.bool_]:
        """Write the masks of a draft tree; the matcher does not change.

        Parameters
        ----------
        parents : int array, shape (n,)
            ``parents[0] == -1`` and ``0 <= parents[i] < i``.
        tokens : int array, shape (n,)
            Token of each node. Node 0 is the last committed token: it is not stepped.
        out : int32 array, shape (>= n, words), C-contiguous, on the CPU
            Row ``i`` is the mask after node ``i``; row 0 is the matcher's own mask.

        Returns
        -------
        bool array, shape (n,)
            Which nodes the grammar allows. A node it does not, and everything below, has an
            all-zero row. Node 0 is always True.

        Raises
        ------
        InputError
            Shapes, parents, dtype or device.
        TokenError, LimitExceeded
            As for `commit`.
        """
        return self._core.fill_tree(token_ids(parents), token_ids(tokens), out)

    def __repr__(self) -> str:
        try:
            state = (
                "finished"
                if self.is_finished()
                else "open"
                if self.dead_at is None
                else f"dead at {self.dead_at}"
            )
            return f"Matcher({len(self)} tokens, {state})"
        except StateError:
            return "Matcher(in use by another thread)"
