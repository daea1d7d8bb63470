"""`Speculator`: drafts token trees and verifies them without changing the text.

A step is: `propose` a tree, run the target once on its nodes, `verify` the rows that come back,
`commit`. Between `verify` and `commit` the host may cut at an end of sequence or a stop string.

The default verifier is *path-lossless*: with one seed the text is the same with and without
speculation, whatever is drafted, because each token is the ordinary draw at its absolute position.
Drafts only decide how many tokens one forward pass yields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trivium import _core
from trivium._core import Request, TreeBatch, Verified
from trivium.errors import InputError, UnsupportedError
from trivium.sources import Source

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    from trivium.control import Policy
    from trivium.lossy import (
        ConfidentPrefix,
        Distance,
        MinBlock,
        Threshold,
        TopK,
        Typical,
    )
    from trivium.vocabulary import Vocabulary

__all__ = ["Request", "Speculator", "TreeBatch", "Verified"]

_AUTO_SOURCES = ("suffix", "recycle")
_VERIFIERS = (
    "auto",
    "law",
    "sampled",
    "race",
    "token",
    "block",
    "multi_round",
    "k_seq",
    "recursive",
    "sequoia",
    "greedy_plus_one",
    "spechub",
    "traversal",
    "gbv",
    "mixed",
)


class Speculator:
    """Draft stores, tree builder and verifier for one target model.

    Parameters
    ----------
    vocab_size : int
        Width of the target's logits; every token id is below it.
    sources : "auto" or list of str or Source, optional
        Draft sources: ``"suffix"`` continues as the longest earlier match continued, ``"recycle"``
        proposes what the target last ranked highest after a token. ``"auto"`` is both. Others, and
        objects with settings, are in `trivium.sources`. An empty list drafts nothing.
    max_nodes : int, optional
        Largest tree of a request, node 0 (the last committed token) counted.
    max_depth : int, optional
        Deepest drafted node.
    verifier : str, optional
        ``"auto"`` keeps the path promise: the ordinary draw of the target decides, whatever was
        drafted. ``"law"`` keeps the law alone and takes the rule that accepts most for the drafts
        at hand. A name selects it: ``"sampled"``, ``"race"``, ``"token"``, ``"block"``,
        ``"multi_round"``, ``"k_seq"``, ``"recursive"``, ``"sequoia"``, ``"greedy_plus_one"``,
        ``"spechub"``, ``"traversal"``, ``"gbv"``, ``"mixed"``. A verifier that would bias the
        drafts of a batch is refused when it is used (`UnsupportedError`).
    policy : str or control.Policy, optional
        ``"auto"`` cuts each tree where the expected tokens per second are highest, once
        `observe_forward` has reported times of two sizes, and lets requests sleep for which
        drafting does not pay; ``"full"`` uses the whole budget. Any other policy of
        `trivium.control` chooses the size of each request's next tree within the budget from what
        was accepted: ``"ucb"``, ``"svip:0.3"``, ``control.Ucb(arms=(2, 8))``.
    seed : int, optional
        Seed of requests that bring none; 64 bits.
    max_bytes : int, optional
        Bound on shared text stores, in bytes a tenant.

    Raises
    ------
    InputError
        A budget is out of range.
    UnsupportedError
        A source, verifier or policy does not exist; the message lists those that do.

    Notes
    -----
    Objects may be shared between threads; one request is used by one thread at a time. Shared
    stores learn from a request's text at ``finish(keep=True)``, and only within its tenant.

    Examples
    --------
    >>> spec = Speculator(16, sources=["suffix"], max_nodes=8)
    >>> req = spec.start([1, 2, 3, 1, 2])
    >>> batch = spec.propose([req])
    >>> batch.tokens.tolist()[:3]
    [2, 3, 1]
    >>> sampled = [3, 9, 0, 0, 0, 0, 0, 0]  # what the target drew at each row
    >>> out = spec.verify(batch, sampled=sampled)
    >>> out.tokens.tolist()
    [3, 9]
    >>> spec.commit(out)
    >>> len(req)
    7
    """

    __slots__ = ("_core", "_verifier", "_vocab_size")

    def __init__(
        self,
        vocab_size: int,
        *,
        sources: str | Source | Sequence[str | Source] = "auto",
        max_nodes: int = 64,
        max_depth: int = 16,
        verifier: str = "auto",
        policy: str | Policy = "auto",
        seed: int = 0,
        max_bytes: int = 256 << 20,
    ) -> None:
        if verifier not in _VERIFIERS:
            raise UnsupportedError(
                f"verifier {verifier!r} does not exist; the verifiers are {', '.join(_VERIFIERS)}"
            )
        if isinstance(sources, str | Source):
            sources = _AUTO_SOURCES if sources == "auto" else (sources,)
        for name, value in (("vocab_size", vocab_size), ("seed", seed), ("max_bytes", max_bytes)):
            if not 0 <= value < 1 << 64:
                raise InputError(f"{name}: {value} is outside 0..2^64")
        self._core = _core.Speculator(
            vocab_size,
            [str(s) for s in sources],
            max_nodes,
            max_depth,
            str(policy),
            seed,
            max_bytes,
        )
        self._vocab_size = vocab_size
        self._verifier = verifier

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, vocabulary: Vocabulary | None = None
    ) -> Speculator:
        """Read the stores, calibration and configuration that `save` wrote.

        Parameters
        ----------
        path : path
            File of `save`.
        vocabulary : Vocabulary, optional
            The vocabulary that the ids belong to: a file that was not saved with it is refused.

        Raises
        ------
        InputError
            The file is damaged, cut short, of another format or of another vocabulary.
        """
        self = cls.__new__(cls)
        self._core = _core.Speculator.load(path, _digest(vocabulary))
        self._vocab_size = self._core.config["vocab_size"]
        self._verifier = "auto"
        return self

    def save(self, path: str | os.PathLike[str], *, vocabulary: Vocabulary | None = None) -> None:
        """Write the stores of the anonymous tenant, the calibration and the configuration.

        The file is ``trivium-store-2``, a plain safetensors file of U32 tensors with a checksum
        and, if given, the digest of the vocabulary. It holds text of finished requests. An
        existing file is replaced only when the new one is complete.
        """
        self._core.save(path, _digest(vocabulary))

    def attach(self, path: str | os.PathLike[str], *, vocabulary: Vocabulary | None = None) -> None:
        """Take the texts of a saved file as static ones.

        Requests of every tenant that start from now on draft from them; nothing changes them. A
        second call replaces them. They are bounded by `max_bytes`, beside the tenants' own.

        Raises
        ------
        InputError
            As for `load`, and for a file of another vocabulary size; nothing changes.
        """
        self._core.attach(path, _digest(vocabulary))

    @property
    def verifier(self) -> str:
        """Name of the verifier, ``"auto"`` or ``"law"``."""
        return self._verifier

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""
        return self._vocab_size

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as plain data."""
        return self._core.config

    def start(
        self,
        prompt_ids: Any,
        *,
        group: str | None = None,
        tenant: str | None = None,
        seed: int | None = None,
        branch: int = 0,
        draw: str = "cdf",
        constraint: Any | None = None,
        pipeline: Any | None = None,
    ) -> Request:
        """Start a request.

        Parameters
        ----------
        prompt_ids : int array, shape (n,), n >= 1
            Prompt; about 0.5 us a token. Models without a prompt start from their first token.
        group : str, optional
            Requests of one group (sibling samples of a prompt) share drafts.
        tenant : str, optional
            Owner of the shared stores; requests of different tenants share nothing. None is a
            tenant of its own.
        seed : int, optional
            Seed of the request's noise, 64 bits; default the speculator's. Two requests with equal
            seed, branch and text draw alike.
        branch : int, optional
            Trace number among sibling samples of one seed.
        draw : "cdf" or "race", optional
            How laws become tokens; part of what the seeded text depends on.
        constraint : matcher, optional
            Mask along the output, forked here; draft nodes that it forbids are pruned and
            ``verify(logits=)`` applies it.
        pipeline : sampling.Pipeline, optional
            The request's processed law: penalties and masks advance along every draft path,
            tokens that its hard masks forbid are not drafted, and ``verify(logits=)`` takes no
            parameters beside it.

        Returns
        -------
        Request

        Raises
        ------
        InputError
            Empty prompt, or a constraint of another width.
        UnsupportedError
            The pipeline needs rows that verification does not have (self-debiasing).
        TokenError
            An id outside the vocabulary.
        """
        return self._core.start(prompt_ids, group, tenant, seed, branch, draw, constraint, pipeline)

    def propose(self, requests: Iterable[Request], max_total: int | None = None) -> TreeBatch:
        """Grow one draft tree a request.

        Parameters
        ----------
        requests : iterable of Request
            Each at most once.
        max_total : int, optional
            Bound on the nodes of the whole batch, node 0s counted; the best nodes of all requests
            compete for it.

        Returns
        -------
        TreeBatch
            Flat arrays with offsets. Node 0 of each request is its last committed token.
        """
        return self._core.propose(list(requests), max_total)

    def verify(
        self,
        batch: TreeBatch,
        *,
        sampled: Any | None = None,
        logits: Any | None = None,
        q: Any | None = None,
        temperature: Any = 1.0,
        top_k: Any = 0,
        top_p: Any = 1.0,
        min_p: Any = 0.0,
        top_ids: Any | None = None,
        lossy: str
        | Typical
        | Threshold
        | TopK
        | Distance
        | MinBlock
        | ConfidentPrefix
        | None = None,
    ) -> Verified:
        """Decide which drafts the target itself would have chosen. Nothing is committed.

        Parameters
        ----------
        batch : TreeBatch
            From `propose`; its requests must not have changed since.
        sampled : int array, shape (N,), optional
            One id a row, sampled by the host; -1 where it was not computed.
        logits : float array, shape (N, vocab), optional
            Rows of the target, float32, float16 or bfloat16 (float64 is rounded). Exactly one of
            `sampled` and `logits` is given. Rows of a CUDA array stay on their device, where its
            library's current stream draws from them; verifiers that read whole rows get a copy on
            the host, with one warning.
        temperature, top_k, top_p, min_p : float or int, or one a request, optional
            The processed law, applied in this order after the request's constraint. Temperature
            below 1e-5 is greedy, lowest id on ties. Only for `logits`.
        top_ids : int array, shape (N, k), optional
            Best ids of each row, best first, -1 padded: feeds ``"recycle"`` when ids are verified.
        q : float array, shape (N, vocab), optional
            Draft probabilities: row ``i`` is the law that the children of node ``i`` were drawn
            from. Verifiers of drawn drafts test against it; ``"auto"`` needs none.
        lossy : str or a rule of `trivium.lossy`, optional
            A rule over trees that is *not* lossless, in place of the verifier; by name
            (``"typical"``, ``"threshold"``, ``"top_k"``, ``"distance"``, ``"min_block"``,
            ``"confident"``) with its released or default numbers.
            ``out.deviation`` bounds the total variation of each request's text.

        Returns
        -------
        Verified

        Raises
        ------
        StateError
            The walk reached a row of -1, a row allows nothing, or a request changed since
            `propose`.
        InputError
            Wrong shape, dtype or device; NaN or +inf in a row that the walk reached.
        DeviceError
            A device that serves the call fails.
        """
        if (sampled is None) == (logits is None):
            raise InputError("give exactly one of sampled and logits")
        if sampled is not None:
            if self._verifier not in ("auto", "law", "sampled", "race") or lossy is not None:
                name = self._verifier if lossy is None else lossy
                raise UnsupportedError(f"{name!r} reads rows of the target: pass logits=")
            return self._core.verify_ids(batch, sampled, top_ids)
        if top_ids is not None:
            raise InputError("top_ids belongs to sampled=; with logits= the rows are at hand")
        rule: tuple[str, list[float]] | None = None
        if lossy is not None:
            rule = (lossy, []) if isinstance(lossy, str) else lossy._core()
        n = len(batch)
        columns = (
            _column("temperature", temperature, n, float),
            _column("top_k", top_k, n, int),
            _column("top_p", top_p, n, float),
            _column("min_p", min_p, n, float),
        )
        return self._core.verify_logits(
            batch, logits, list(zip(*columns, strict=True)), q, self._verifier, rule
        )

    def commit(self, out: Verified) -> None:
        """Append the emitted tokens and let the stores learn from the pass.

        Raises
        ------
        StateError
            A request changed since `verify`.
        TokenError
            A constraint refuses an id that the host sampled. Nothing changes then.
        """
        self._core.commit(out)

    def observe_forward(self, nodes: int, seconds: float) -> None:
        """Report that a forward pass over `nodes` nodes took `seconds`.

        The policy ``"auto"`` sizes trees by these times and switches drafting off where it does
        not pay. They never change emitted text.
        """
        self._core.observe_forward(nodes, seconds)

    def stats(self) -> dict[str, Any]:
        """Counters since construction.

        Returns
        -------
        dict
            ``steps``, ``tokens``, ``drafted``, ``accepted``; ``sources``: by name, drafted nodes
            whose parent was reached (``tried``) and how many of them were ``accepted``;
            ``calibration``: the same nodes in 20 equal bins of the estimated probability, as lists
            ``tried``, ``expected`` (sum of the estimates) and ``accepted``, and ``error``, the
            expected calibration error.
        """
        return self._core.stats()

    def memory(self) -> dict[str, int]:
        """Bytes of the shared stores by source, and their total."""
        return self._core.memory()

    def __repr__(self) -> str:
        c = self.config
        return (
            f"Speculator({c['vocab_size']}, sources={c['sources']}, max_nodes={c['max_nodes']}, "
            f"max_depth={c['max_depth']}, policy={c['policy']!r}, seed={c['seed']})"
        )


def _digest(vocabulary: Vocabulary | None) -> int | None:
    return None if vocabulary is None else vocabulary.digest


def _column(name: str, value: Any, n: int, kind: type) -> list[Any]:
    """One value a request, from a scalar or a sequence."""
    if np.ndim(value) == 0:
        return [kind(value)] * n
    values = [kind(v) for v in value]
    if len(values) != n:
        raise InputError(f"{name}: {len(values)} values for {n} requests")
    return values
