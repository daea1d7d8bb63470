"""Drafts of networks that the host runs: the law they declare, and who may verify them.

EAGLE's and its relatives' networks are trained with their target and live in the serving stack.
What the library needs of them is how their tokens were chosen: a `HostDraft` says it, names the
verifiers that are exact for it, and checks and packs what the host brings, tokens and natural
log-probabilities ``log q``.

>>> draft = HostDraft.of("mtp")
>>> draft.law, "block" in draft.verifiers, "recursive" in draft.verifiers
('iid', True, True)
>>> HostDraft.of("eagle2").verifiers
['auto', 'law', 'sampled', 'race', 'mixed']
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium import _core
from trivium._core import TreeBatch
from trivium.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trivium._core import Request

__all__ = ["SYSTEMS", "HostDraft", "systems"]

_VERIFIERS = (
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
_CHAINS = ("token", "block")

#: How each system's release chooses its tokens when it samples: law, pruning, shape. A host that
#: chooses otherwise declares it by `HostDraft` itself.
SYSTEMS: dict[str, tuple[str, str, str]] = {
    # Heads and layers with the best tokens of each row: chosen trees.
    "medusa": ("point_mass", "none", "tree"),
    "hydra": ("point_mass", "none", "tree"),
    "amphista": ("point_mass", "none", "tree"),
    "ppd": ("point_mass", "none", "tree"),
    "hidden_transfer": ("point_mass", "none", "tree"),
    "chimera": ("point_mass", "none", "tree"),
    "space": ("point_mass", "none", "tree"),
    "s3d": ("point_mass", "none", "tree"),
    "eagle": ("point_mass", "none", "tree"),
    "eagle2": ("point_mass", "identity", "tree"),
    "eagle3": ("point_mass", "identity", "tree"),
    "jakiro": ("point_mass", "identity", "tree"),
    "gumiho": ("point_mass", "identity", "tree"),
    "fspad": ("point_mass", "identity", "tree"),
    "redrafter": ("point_mass", "identity", "tree"),
    # Chains drawn token by token from the network's law.
    "mtp": ("iid", "shape", "chain"),
    "combined_speculator": ("iid", "shape", "chain"),
    "mixture_of_attentions": ("iid", "shape", "chain"),
    "m2r2": ("iid", "shape", "chain"),
    "quantspec": ("iid", "shape", "chain"),
}


def systems() -> list[str]:
    """Names that `HostDraft.of` knows."""
    return sorted(SYSTEMS)


@dataclass(frozen=True)
class HostDraft:
    """How the tokens of a host's network were chosen.

    Attributes
    ----------
    law : str
        ``"point_mass"`` (the best tokens of each row), ``"race"`` (under the request's own noise),
        ``"iid"``, ``"without_replacement"``, ``"without_replacement_then_uniform"``,
        ``"greedy_plus_one"``, ``"spechub"``.
    pruning : str
        ``"none"``; ``"shape"`` (chains end and nodes are left out by what was known before their
        token was drawn, or behind it); ``"identity"`` (a node was left out for what its token is).
    shape : "chain" or "tree"
        Whether nodes have siblings.

    Raises
    ------
    UnsupportedError
        No such law or pruning.
    """

    law: str
    pruning: str = "none"
    shape: str = "tree"

    def __post_init__(self) -> None:
        """Refuse laws and prunings that do not exist."""
        _core.verifier_takes("sampled", self.law, self.pruning)
        if self.shape not in ("chain", "tree"):
            raise UnsupportedError(f'shape {self.shape!r} is neither "chain" nor "tree"')

    @classmethod
    def of(cls, system: str) -> HostDraft:
        """Declare the law of a published system; `SYSTEMS` lists them."""
        if system not in SYSTEMS:
            raise UnsupportedError(f"system {system!r} is none of {', '.join(systems())}")
        return cls(*SYSTEMS[system])

    @property
    def verifiers(self) -> list[str]:
        """Verifiers that are exact for these drafts."""
        chain = self.shape == "chain"
        exact = [
            name
            for name in _VERIFIERS
            if _core.verifier_takes(name, self.law, self.pruning) and (chain or name not in _CHAINS)
        ]
        return ["auto", "law", *exact]

    def check(self, verifier: str) -> None:
        """Refuse a verifier that would bias these drafts: `UnsupportedError` naming both."""
        if verifier not in self.verifiers:
            raise UnsupportedError(
                f"drafts of law {self.law!r} ({self.shape}, pruning {self.pruning!r}) under the "
                f"verifier {verifier!r}; exact are {', '.join(self.verifiers)}"
            )

    def batch(
        self,
        tokens: Any,
        parents: Any,
        cu_nodes: Any,
        log_q: Any | None = None,
        *,
        requests: Sequence[Request],
    ) -> tuple[TreeBatch, NDArray[np.float32] | None]:
        """Pack trees for `Speculator.verify`.

        Parameters
        ----------
        tokens, parents : int array, shape (N,)
            Node 0 of each request is its last committed token, with parent -1.
        cu_nodes : int array, shape (B + 1,)
            Offsets of the requests.
        log_q : float array, shape (N, vocab), optional
            Row ``i``: natural log-probabilities that the children of node ``i`` were drawn from, as
            drawn: after temperature and truncation. Rows of leaves are not read. Needed for drawn
            laws, not taken for others.
        requests : sequence of Request

        Returns
        -------
        TreeBatch, and float32 array (N, vocab) or None
            For ``verify(batch, logits=..., q=...)``.

        Raises
        ------
        InputError
            Shapes that do not fit, siblings in a chain, a row that is no law (its probabilities do
            not sum to 1 within 1e-3), or a drafted token of probability 0.
        """
        tokens, parents = (np.asarray(x, np.int64).ravel() for x in (tokens, parents))
        cu = np.asarray(cu_nodes, np.int64).ravel()
        batch = TreeBatch.from_arrays(
            tokens, parents, cu, requests=list(requests), law=self.law, pruning=self.pruning
        )
        starts = np.repeat(cu[:-1], np.diff(cu))
        child = np.flatnonzero(parents >= 0)
        above = (starts + parents)[child]
        if self.shape == "chain" and len(set(above.tolist())) < len(above):
            raise InputError("parents: siblings in what was declared a chain")
        if self.law in ("point_mass", "race"):
            if log_q is not None:
                raise InputError(f"log_q: drafts of law {self.law!r} were not drawn from it")
            return batch, None
        if log_q is None:
            raise InputError(f"log_q: drafts of law {self.law!r} need the law they were drawn from")
        rows = np.asarray(log_q, np.float64)
        if rows.ndim != 2 or len(rows) != len(tokens):
            raise InputError(f"log_q: shape {rows.shape} for {len(tokens)} nodes")
        inner = np.unique(above)
        q = np.zeros(rows.shape, np.float32)
        q[inner] = np.exp(rows[inner])
        sums = q[inner].sum(1, dtype=np.float64)
        if not (np.abs(sums - 1) <= 1e-3).all():  # NaN too
            bad = inner[~(np.abs(sums - 1) <= 1e-3)][0]
            raise InputError(f"log_q: row {bad} is no law (its probabilities do not sum to 1)")
        if not (q[above, tokens[child]] > 0).all():
            raise InputError("log_q: a drafted token has probability 0 in its parent's row")
        return batch, q
