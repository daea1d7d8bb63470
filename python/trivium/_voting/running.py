"""Events of running traces, as methods of `Voter`: tokens, texts, early answers, steps, forks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trivium._voting.arguments import array_of, integer_of, rows_of, text_of
from trivium.errors import InputError

if TYPE_CHECKING:
    from trivium import _core
    from trivium._voting.events import Action

__all__ = ["RunningEvents"]


class RunningEvents:
    """What a host reports of traces that run."""

    __slots__ = ()

    if TYPE_CHECKING:
        _core: _core.Voter

        def _handle(self, q: int | str) -> int: ...
        def _actions(self, raw: list[tuple[str, int, str, Any]]) -> list[Action]: ...

    def tokens(
        self,
        qs: Any,
        ts: Any,
        ids: Any = None,
        lps: Any = None,
        conf: Any = None,
        entropy: Any = None,
    ) -> list[Action]:
        """Report the tokens of one engine step, one row a token.

        Parameters
        ----------
        qs, ts : int array, shape (rows,)
            Handle of the question and trace number of each token.
        ids : int array, shape (rows,), optional
            Token ids, for the pruning rules ``cover`` and ``loop``.
        lps : float array, shape (rows,), optional
            Log-probabilities of the tokens.
        conf : float array, shape (rows,), optional
            Token confidences: minus the mean of the largest log-probabilities (DeepConf).
        entropy : float array, shape (rows,), optional
            Entropies of the tokens' laws, in nats: their mean is the entropy of the trace, and
            `fork` reads them.

        Returns
        -------
        list of Action
            Traces cancelled by `prune` or forked by `fork`, and what follows from that. Under
            `max_tokens` the decision that spends the last one.

        Raises
        ------
        InputError
            Shapes that differ, an unknown question or trace, a value that is not a number.
        StateError
            A trace that has ended. No row counts then.
        """
        rows = array_of("qs", qs, np.int64)
        if ids is not None:
            ids = array_of("ids", ids, np.int64)
            if ids.shape != rows.shape:
                raise InputError(f"ids: needs the shape of qs, {rows.shape}")
        return self._actions(
            self._core.tokens(
                rows,
                array_of("ts", ts, np.int64),
                None if lps is None else rows_of("lps", lps, rows),
                None if conf is None else rows_of("conf", conf, rows),
                ids,
                None if entropy is None else rows_of("entropy", entropy, rows),
            )
        )

    def text(self, q: int | str, trace: int, chunk: str) -> list[Action]:
        """Report text that a running trace has written since the last call.

        Under `finish_on_answer` a trace whose answer is marked and whole is finished with it: its
        ballot counts, and it is cancelled. An answer may still be extended where its mark is open,
        or where the text ends in a full stop. Only the last 4 KiB are looked at.
        """
        handle, number = self._handle(q), integer_of("trace", trace, 63)
        return self._actions(self._core.text(handle, number, text_of("chunk", chunk)))

    def probe(
        self, q: int | str, trace: int, *, text: str | None = None, answer: str | None = None
    ) -> list[Action]:
        """Report an early answer of a running trace, or the answer of a denoising step.

        The host forces the answer on a copy of the trace, or reads the predicted canvas; without
        `text` and `answer` there is none. What it does is said by the voter's `probe`.

        Raises
        ------
        InputError
            A voter made without `probe`, an unknown question or trace, both texts.
        StateError
            A trace that has ended.
        """
        if text is not None and answer is not None:
            raise InputError("text, answer: give one of them")
        said = (
            None if text is None else text_of("text", text),
            None if answer is None else text_of("answer", answer),
        )
        handle, number = self._handle(q), integer_of("trace", trace, 63)
        return self._actions(self._core.probe(handle, number, *said))

    def segment(self, q: int | str, trace: int, reward: float) -> list[Action]:
        """Report the reward of a step of a running trace.

        A process reward, or the score of `trivium.voting.self_evaluation`. A trace that finishes
        without a reward of its own has the one that its steps make up. Below `accept` the step is
        forgotten, and the answer is `Regenerate`.
        """
        handle, number = self._handle(q), integer_of("trace", trace, 63)
        return self._actions(self._core.segment(handle, number, float(reward)))

    def fork(self, q: int | str, trace: int, n: int = 1) -> list[Action]:
        """Continue a running trace in `n` further ones, as a search over partial texts does.

        They take numbers and budget like launches, and under ``weight="leaf"`` share the weight of
        the trace with it.

        Raises
        ------
        InputError
            More branches than the budget has traces left; a stop rule that takes ballots for
            independent draws.
        StateError
            A trace that has ended, a question that is decided.
        """
        handle, number = self._handle(q), integer_of("trace", trace, 63)
        return self._actions(self._core.fork(handle, number, integer_of("n", n, 32)))

    def expire(self, now: float) -> list[Action]:
        """Decide the questions whose deadline has come, with what has been counted.

        `now` is the host's time, in the unit of the deadlines; the voter reads no clock.
        """
        return self._actions(self._core.expire(float(now)))
