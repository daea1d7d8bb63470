"""`Voter.run`: samples that arrive by themselves, such as those of a remote model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trivium._voting.events import Done, Launch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trivium import _core
    from trivium._voting.events import Action, Question, Result

__all__ = ["RemoteSamples"]


class RemoteSamples:
    """The loop over an async function."""

    __slots__ = ()

    if TYPE_CHECKING:
        _core: _core.Voter
        _mail: dict[int, tuple[list[Action], Any]]
        _left: list[Action]

        def open(
            self, id: str, *, budget: int | None = None, seed: int | None = None
        ) -> Question: ...
        def forget(self, q: int | str) -> None: ...
        def _actions(self, raw: list[tuple[str, int, str, Any]]) -> list[Action]: ...
        def _finish(
            self, q: int | str, trace: int, *, text: str | None = None
        ) -> list[tuple[str, int, str, Any]]: ...

    async def run(
        self,
        sample_fn: Callable[[int], Awaitable[str | None]],
        question: str,
        *,
        budget: int | None = None,
        seed: int | None = None,
    ) -> Result:
        """Sample and vote until the question is decided.

        Parameters
        ----------
        sample_fn : async callable
            Takes a trace number, returns the output of that trace, or None for a failure.
        question : str
            Id of the question.
        budget, seed : int, optional
            In place of the voter's.

        Returns
        -------
        Result
            The decision. Samples that it makes superfluous are cancelled.

        Raises
        ------
        Exception
            What `sample_fn` raises; the other samples are cancelled and the question is forgotten.
        """
        q = self.open(question, budget=budget, seed=seed)
        import asyncio  # a sixth of the package's import time, for this method alone

        running: dict[asyncio.Future[str | None], int] = {}
        # Under a pool that ranks questions, events of others launch traces of this one.
        mail: list[Action] = []
        rung = asyncio.Event()
        self._mail[q] = (mail, rung)
        bell = asyncio.ensure_future(rung.wait())
        try:
            # `next` may return launches of other questions too; this question's come from here.
            self._post(self._core.launch(q))
            while True:
                rung.clear()
                for action in mail:
                    if isinstance(action, Done):
                        return action.result
                    if isinstance(action, Launch):
                        running |= {asyncio.ensure_future(sample_fn(t)): t for t in action.traces}
                mail.clear()
                if bell.done():
                    bell = asyncio.ensure_future(rung.wait())
                waiting: set[asyncio.Future[Any]] = {*running, bell}
                ended, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(ended & running.keys(), key=running.__getitem__):
                    said = task.result()
                    self._post(self._finish(q, running.pop(task), text=said))
        except BaseException:
            self.forget(q)
            raise
        finally:
            del self._mail[q]
            left: set[asyncio.Future[Any]] = {bell, *running}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def _post(self, raw: list[tuple[str, int, str, Any]]) -> None:
        """Hand actions to the questions that `run` drives; `next` returns the others."""
        for action in self._actions(raw):
            if action.q in self._mail:
                mail, rung = self._mail[action.q]
                mail.append(action)
                rung.set()
            else:
                self._left.append(action)
