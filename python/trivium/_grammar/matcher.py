"""One sequence under a grammar."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from trivium._grammar.arguments import count, token_id, token_ids
from trivium.errors import InputError, StateError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from trivium._core import Matcher as CoreMatcher

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

    __slots__ = ("_core",)

    _core: CoreMatcher

    def __init__(self) -> None:
        raise InputError("Matcher: use GrammarMask.matcher()")

    @classmethod
    def _wrap(cls, core: CoreMatcher) -> Self:
        self = cls.__new__(cls)
        self._core = core
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
        return self._core.sync(token_ids(tokens))

    def fork(self) -> Self:
        """Make an independent copy, for a beam or a sibling sample.

        Returns
        -------
        Matcher
        """
        return self._wrap(self._core.fork())

    def reset(self) -> None:
        """Go back to the empty text."""
        self._core.reset()

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
        >>> from trivium import Vocabulary
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
            Forbidden tokens become minus infinity; so does everything beyond the vocabulary.

        Returns
        -------
        float
            Natural log of the probability that was kept; ``-inf`` if nothing was.

        Raises
        ------
        InputError
            A short row, a NaN or a plus infinity; the row is then unchanged.
        """
        return self._core.apply(logits)

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

    def forced_tokens(self, mode: Literal["draft", "stable"] = "draft") -> NDArray[np.int32]:
        """Propose tokens for the forced bytes.

        Parameters
        ----------
        mode : {"draft", "stable"}, optional
            ``"draft"``: a chain to be verified against the masked law, which leaves the output's
            distribution as it is. ``"stable"`` (commit without the model) needs the tokenizer's
            canonical encoder and is not served yet.

        Returns
        -------
        int32 array, shape (n,)
            Longest match first, up to the first boundary that a longer allowed token could cross.

        Raises
        ------
        UnsupportedError
            `mode` is ``"stable"``.
        StateError
            The matcher is dead.
        """
        if mode == "stable":
            raise UnsupportedError(
                'forced_tokens(mode="stable") needs the tokenizer\'s encoder; use mode="draft"'
            )
        if mode != "draft":
            raise InputError(f'mode: {mode!r} is not "draft" or "stable"')
        return self._core.forced_tokens()

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
