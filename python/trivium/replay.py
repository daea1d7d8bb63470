"""What to distil a draft model from: a bounded store of missed and met positions.

*Online Speculative Decoding* trains the draft on the target's laws where it was wrong.
`ReplayStore` keeps those places: the text before them and the target's best tokens with their
probabilities, rejected positions first, every one of a kind with the same chance to stay. It says
when an update is due. Training, and swapping weights between calls, are the host's.

``DraftModel(replay=store)`` fills it in `generate`.

>>> store = ReplayStore(100_000, context=4, top=2)
>>> store.add([5, 6, 7, 8, 9], [3, 1], [0.75, 0.25], accepted=False)
>>> [example] = store.take()
>>> example.tokens.tolist(), example.ids.tolist(), example.accepted
([6, 7, 8, 9], [3, 1], False)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.drafting import ReplayBuffer
from trivium.errors import InputError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trivium.vocabulary import Vocabulary

__all__ = ["Example", "ReplayStore"]

_FORMAT = "trivium-replay-1"


@dataclass(frozen=True)
class Example:
    """One position.

    Attributes
    ----------
    tokens : int32 array, shape (n,)
        The end of the text before it.
    ids : int32 array, shape (k,)
        The target's best tokens there.
    probs : float32 array, shape (k,)
        Their probabilities; what is missing to 1 belongs to other tokens.
    accepted : bool
        Whether the draft was right.
    """

    tokens: NDArray[np.int32]
    ids: NDArray[np.int32]
    probs: NDArray[np.float32]
    accepted: bool


class ReplayStore:
    """Positions to learn from, bounded in bytes.

    Parameters
    ----------
    max_bytes : int
        Bound; an example takes ``4 * (context + 2 * top) + 64`` bytes at most.
    context : int
        Tokens kept before a position.
    top : int
        Tokens kept of the target's law.
    interval : int
        Finished requests after which an update is due.
    drop : float
        An update is also due once acceptance falls below this share of its best.
    seed : int
        Of the choice of what stays.

    Raises
    ------
    InputError
        A bound that holds not two examples.
    """

    def __init__(
        self,
        max_bytes: int = 16 << 20,
        *,
        context: int = 64,
        top: int = 32,
        interval: int = 64,
        drop: float = 0.8,
        seed: int = 0,
    ) -> None:
        each = 4 * (context + 2 * top) + 64
        if context < 1 or top < 1 or max_bytes < 2 * each:
            raise InputError(f"max_bytes: {max_bytes} holds not two examples of {each} bytes")
        self._config = {
            "max_bytes": max_bytes,
            "context": context,
            "top": top,
            "interval": interval,
            "drop": drop,
            "seed": seed,
        }
        self._context, self._top, self._each = context, top, each
        self._buffer = ReplayBuffer(max_bytes // each, interval=interval, drop=drop, seed=seed)
        self._examples: dict[int, Example] = {}
        self._next = 0
        self._counts: dict[int, list[int]] = {}

    def add(
        self, text: Sequence[int], ids: Sequence[int], probs: Sequence[float], *, accepted: bool
    ) -> None:
        """Offer a position: the text before it and the target's best tokens there.

        Raises
        ------
        InputError
            No text, or another number of probabilities than of ids.
        """
        if not len(text) or len(ids) != len(probs) or not len(ids):
            raise InputError(f"text, ids, probs: {len(text)}, {len(ids)} and {len(probs)} entries")
        best = np.argsort(-np.asarray(probs, np.float32), kind="stable")[: self._top]
        example = Example(
            np.array(text[-self._context :], np.int32),
            np.asarray(ids, np.int32)[best],
            np.asarray(probs, np.float32)[best],
            accepted,
        )
        self._examples[self._next] = example
        gone = self._buffer.push(self._next, len(text), accepted)
        self._next += 1
        if gone is not None:
            del self._examples[gone[0]]

    def observe(self, request: Any, chain: Sequence[int], new: Sequence[int], logits: Any) -> None:
        """Take a step of `generate`: the drafted chain, what was emitted, the rows that chose it.

        Every drafted position whose draft was reached is offered, the first wrong one as rejected.
        """
        text = request.prompt + request.tokens[: len(request.tokens) - len(new)]
        drafted, accepted = self._counts.setdefault(request.index, [0, 0])
        drafted += len(chain)
        for i, (token, said) in enumerate(zip(chain, new, strict=False)):
            top = logits[i].softmax(-1).topk(min(self._top, logits.shape[-1]))
            self.add(
                text + list(new[:i]),
                top.indices.tolist(),
                top.values.tolist(),
                accepted=token == said,
            )
            accepted += token == said
            if token != said:
                break
        self._counts[request.index] = [drafted, accepted]
        if request.reason:
            del self._counts[request.index]
            if drafted:
                self.finish(accepted / drafted)

    def finish(self, acceptance: float) -> None:
        """Hear that a request ended with this share of its drafts accepted."""
        self._buffer.finish(acceptance)

    @property
    def is_due(self) -> bool:
        """Whether the draft should be updated now."""
        return self._buffer.is_due

    def take(self) -> list[Example]:
        """Take all examples, rejected ones first; counting starts anew."""
        out = [self._examples.pop(handle) for handle, _, _ in self._buffer.drain()]
        self._examples.clear()
        return out

    def __len__(self) -> int:
        """Examples held."""
        return len(self._examples)

    @property
    def memory(self) -> int:
        """Bytes held at most, by the number of examples."""
        return len(self._examples) * self._each

    def save(self, path: str | os.PathLike[str], *, vocabulary: Vocabulary | None = None) -> None:
        """Write the examples to a file, which holds text.

        The file is ``trivium-replay-1``: a NumPy ``npz`` archive of ``tokens`` and ``ids`` (int32),
        ``probs`` (float32), their lengths ``cu_tokens`` and ``cu_ids`` (int64 offsets),
        ``accepted`` (bool) and ``header``, JSON in bytes with format, settings and the digest of
        the vocabulary.
        """
        examples = list(self._examples.values())

        def flat(name: str, dtype: Any) -> tuple[Any, Any]:
            parts = [getattr(e, name) for e in examples]
            joined = np.concatenate(parts) if parts else np.zeros(0, dtype)
            return joined.astype(dtype), np.cumsum([0, *map(len, parts)])

        tokens, cu_tokens = flat("tokens", np.int32)
        ids, cu_ids = flat("ids", np.int32)
        probs, _ = flat("probs", np.float32)
        header = {
            "format": _FORMAT,
            "config": self._config,
            "vocabulary": None if vocabulary is None else f"{vocabulary.digest:016x}",
        }
        path = Path(path)
        part = path.with_name(path.name + ".part")
        with part.open("wb") as f:
            np.savez(
                f,
                tokens=tokens,
                ids=ids,
                probs=probs,
                cu_tokens=cu_tokens,
                cu_ids=cu_ids,
                accepted=np.array([e.accepted for e in examples], bool),
                header=np.frombuffer(json.dumps(header).encode(), np.uint8),
            )
        part.replace(path)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, vocabulary: Vocabulary | None = None
    ) -> ReplayStore:
        """Read a file of `save`.

        Raises
        ------
        InputError
            The file is damaged, of another format, or of another vocabulary.
        """
        try:
            # NumPy leaves a file open that it cannot read.
            with Path(path).open("rb") as f, np.load(f, allow_pickle=False) as data:
                arrays = {name: data[name] for name in data.files}
            header = json.loads(arrays["header"].tobytes())
            made, found = header["format"], header.get("vocabulary")
        except Exception as e:  # npz readers fail in many ways on damaged files
            raise InputError(f"replay: cannot be read: {e}") from e
        if made != _FORMAT:
            raise InputError(f"replay: format {made!r}, this reads {_FORMAT!r}")
        if vocabulary is not None and found != f"{vocabulary.digest:016x}":
            raise InputError("replay: was made for another vocabulary")
        try:
            self = cls(**header["config"])
            cu, ci = arrays["cu_tokens"], arrays["cu_ids"]
            for i, accepted in enumerate(arrays["accepted"].tolist()):
                self.add(
                    arrays["tokens"][cu[i] : cu[i + 1]],
                    arrays["ids"][ci[i] : ci[i + 1]],
                    arrays["probs"][ci[i] : ci[i + 1]],
                    accepted=bool(accepted),
                )
        except (InputError, KeyError, TypeError, IndexError, ValueError) as e:
            raise InputError(f"replay: is damaged: {e}") from e
        return self
