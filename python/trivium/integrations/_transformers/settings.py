"""Who drafts in `generate` beside the stores: settings, without torch.

Each class is plain data with ``open(opening)``, which makes the drafter of one call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trivium.errors import InputError
from trivium.integrations._transformers.agreement import Agreement
from trivium.integrations._transformers.pace import Pace
from trivium.words import StringMatch, StringRejection, Words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trivium.builders import Template
    from trivium.control import Controller, Policy
    from trivium.drafting import DraftRouter
    from trivium.host_drafts import HostDraft
    from trivium.integrations._transformers.drafter import Drafter, Opening
    from trivium.replay import ReplayStore
    from trivium.speculator import Speculator

__all__ = [
    "Cascade",
    "DraftModel",
    "EarlyExit",
    "Heads",
    "HostDrafter",
    "LayerSkip",
    "Lookahead",
    "Retrieval",
    "Routed",
]

_NOT_FROM_ROWS = ("ppd", "heap", "rasd", "rasd_drawn")
_FILL_TEMPLATES = ("template", "rsd_c", "sequoia", "iid_paths", "greedy_plus_one")
_LAWS = ("auto", "shared", "point_mass", "iid")


@dataclass(frozen=True)
class Retrieval:
    """RASD's pruning and fusion: stores propose, the draft model judges.

    Attributes
    ----------
    top_k : int
        Retrieved branches stay whose first token is among the draft model's `top_k`.
    max_nodes : int
        Nodes of the fused tree, node 0 counted.
    """

    top_k: int = 10
    max_nodes: int = 64

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.top_k < 1 or self.max_nodes < 1:
            raise InputError("Retrieval: top_k and max_nodes from 1 on")


@dataclass(frozen=True)
class DraftModel:
    """A small causal model that drafts for the target of `generate`, beside the stores.

    Attributes
    ----------
    model : transformers causal language model
        In evaluation mode; with the target's vocabulary, or with `words`.
    num_tokens : int
        Longest draft; one pass of the draft model a token.
    width : int
        Nodes a level: the drafted token and its runners-up (not with ``law="iid"``).
    min_prob : float
        A draft ends after the token with which its path falls below this probability of being
        emitted, as far as earlier steps tell (the object goes on learning across calls); with
        ``law="iid"`` after the row whose best token falls below it under the draft model.
    min_node : float
        Runners-up less likely than this to be emitted are not verified.
    law : "auto", "shared", "point_mass" or "iid"
        How tokens are chosen. ``"shared"``: as the draft model itself would emit them under the
        request's noise, so that where the models agree the texts do; keeps the path promise.
        ``"point_mass"``: the most likely. ``"iid"``: drawn with noise of their own, for the
        verifiers of the law family, alone in their tree. ``"auto"`` is ``"iid"`` for those
        verifiers and ``"shared"`` else.
    policy : str, control.Policy or control.Controller, optional
        Ends each chain, within `num_tokens`: ``"kangaroo"``, ``"draft_verify"``, ``"svip:0.3"``. A
        controller goes on learning across calls.
    words : trivium.words.Words, optional
        A draft model of another vocabulary, or with a pruned head.
    inner : Speculator, optional
        Drafts for the draft model itself (staged speculation): the same chains in fewer passes.
    retrieval : Retrieval, optional
        Prunes what the stores proposed by this model's law, and fuses both trees (RASD).
    replay : trivium.replay.ReplayStore, optional
        Keeps what the draft model should learn from.
    always : bool
        Draft in every step. Otherwise steps in which the stores' drafts are expected to give more
        tokens a second alone go without, by what earlier steps took and gave.
    """

    model: Any
    num_tokens: int = 8
    width: int = 3
    min_prob: float = 0.2
    min_node: float = 0.05
    law: str = "auto"
    policy: str | Policy | Controller | None = None
    words: Words | None = None
    inner: Speculator | None = None
    retrieval: Retrieval | None = None
    replay: ReplayStore | None = None
    always: bool = False
    agreement: Agreement = field(default_factory=Agreement, init=False, repr=False, compare=False)
    pace: Pace = field(default_factory=Pace, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the settings."""
        shares = (self.min_prob, self.min_node)
        if self.num_tokens < 1 or self.width < 1 or not all(0 <= p <= 1 for p in shares):
            raise InputError(
                "DraftModel: num_tokens, width from 1 on, min_prob, min_node within 0..1"
            )
        if self.law not in _LAWS:
            raise InputError(f"DraftModel: law {self.law!r} does not exist")

    def open(self, opening: Opening) -> Drafter:
        """Start it on the requests of one call."""
        if self.inner is not None:
            from trivium.integrations._transformers.staged import Staging

            return Staging(self, opening)
        if isinstance(self.words, StringRejection):
            from trivium.integrations._transformers.string_rejection import StringRejecting

            return StringRejecting(self, opening)
        if isinstance(self.words, StringMatch):
            from trivium.integrations._transformers.string_match import StringMatching

            return StringMatching(self, opening)
        from trivium.integrations._transformers.draft_model import Drafting

        return Drafting(self, opening)


@dataclass(frozen=True)
class Heads:
    """Multi-token heads on the target's hidden state (Medusa, Hydra).

    Attributes
    ----------
    heads : path or HeadStack
        A safetensors file in the layout of either release (`_transformers.heads` lists the names).
    builder : str
        Builder of `trivium.builders` that grows the tree, and with it the draft's law:
        ``"eagle2"``, ``"opt_tree"``, ``"template"`` (point masses, for any verifier of these),
        ``"chain"``, ``"rsd_s"``, ``"dyspec"`` (drawn, with ``q``, for the law verifiers).
    width : int
        Best tokens a node (``"eagle2"``) or beam (``"rsd_s"``).
    max_nodes, max_depth : int
        Budget, node 0 counted; depth is bounded by the number of heads too.
    template : trees.Template, optional
        Shape of ``builder="template"`` and of the drawn templates, at most as deep as the heads.
    """

    heads: Any
    builder: str = "eagle2"
    width: int = 4
    max_nodes: int = 16
    max_depth: int = 8
    template: Template | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        from trivium.builders import builders

        if self.builder not in builders() or self.builder in _NOT_FROM_ROWS:
            raise InputError(f"Heads: no builder {self.builder!r} grows trees from rows")
        if self.width < 1 or self.max_nodes < 2 or self.max_depth < 1:
            raise InputError("Heads: width, max_depth from 1 on, max_nodes from 2 on")
        if (self.template is not None) != (self.builder in _FILL_TEMPLATES):
            raise InputError(f"Heads: builder {self.builder!r} and template do not fit")

    def open(self, opening: Opening) -> Drafter:
        """Start them on the requests of one call."""
        from trivium.integrations._transformers.heads import HeadDrafting

        return HeadDrafting(self, opening)


@dataclass(frozen=True)
class EarlyExit:
    """The target's own first layers as its draft model, over its own cache.

    Attributes
    ----------
    layers : int or sequence of int
        Layers that draft. Of several exits the one that pays best is taken step by step, with its
        draft length and threshold (DEL).
    num_tokens : int
        Longest draft.
    width, min_prob, min_node, law, always
        As in `DraftModel`.
    policy : str, control.Policy or control.Controller, optional
        Ends a chain: ``"kangaroo"`` behind a token whose law was unsure, ``"thompson"`` (EESD).
    adapter : torch.nn.Module, optional
        Kangaroo's trained part, from hidden states to hidden states token by token.
    """

    layers: int | Sequence[int]
    num_tokens: int = 6
    width: int = 3
    min_prob: float = 0.0
    min_node: float = 0.05
    law: str = "auto"
    policy: str | Policy | Controller | None = "kangaroo"
    adapter: Any | None = None
    always: bool = False
    agreement: Agreement = field(default_factory=Agreement, init=False, repr=False, compare=False)
    pace: Pace = field(default_factory=Pace, init=False, repr=False, compare=False)
    words = model = inner = retrieval = replay = None

    def __post_init__(self) -> None:
        """Check the settings."""
        shares = (self.min_prob, self.min_node)
        if self.num_tokens < 1 or self.width < 1 or not all(0 <= p <= 1 for p in shares):
            raise InputError(
                "EarlyExit: num_tokens, width from 1 on, min_prob, min_node within 0..1"
            )
        if self.law not in _LAWS:
            raise InputError(f"EarlyExit: law {self.law!r} does not exist")
        if not isinstance(self.layers, int) and not self.layers:
            raise InputError("EarlyExit: no layer to exit after")

    def open(self, opening: Opening) -> Drafter:
        """Start it on the requests of one call."""
        from trivium.integrations._transformers.early_exit import Exiting

        return Exiting(self, opening)


@dataclass(frozen=True)
class LayerSkip:
    """The target without some of its sub-layers as its draft model, over its own cache.

    Attributes
    ----------
    layers : "swift", "clasp", LayerSets or list of bool
        How they are chosen: by SWIFT's search while decoding, by CLaSp's programme every few steps,
        by the prompt (KNN-SSD), or fixed: True to leave out, attention of layer ``i`` at ``2 * i``,
        its feed-forward part behind it.
    ratio : float
        Share of the sub-layers (of the layers, for CLaSp) that are left out.
    search : drafting.LayerSetSearch, optional
        SWIFT's search, to go on with across calls.
    window : int
        Last tokens that a candidate is scored on, or that CLaSp reads.
    every : int
        Steps between two choices of CLaSp.
    num_tokens, width, min_prob, law, policy
        As in `DraftModel`; SWIFT's own stop is the policy ``"swift"``.
    """

    layers: Any = "swift"
    ratio: float = 0.3
    search: Any | None = None
    window: int = 32
    every: int = 8
    num_tokens: int = 6
    width: int = 3
    min_prob: float = 0.0
    law: str = "auto"
    policy: str | Policy | Controller | None = "swift"
    agreement: Agreement = field(default_factory=Agreement, init=False, repr=False, compare=False)
    pace: Pace = field(default_factory=Pace, init=False, repr=False, compare=False)
    min_node, always = 0.0, True
    words = model = inner = retrieval = replay = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.num_tokens < 1 or self.width < 1 or not 0 <= self.min_prob <= 1:
            raise InputError("LayerSkip: num_tokens, width from 1 on, min_prob within 0..1")
        if self.law not in _LAWS or self.window < 2 or self.every < 1 or not 0 < self.ratio < 1:
            raise InputError("LayerSkip: window from 2 on, every from 1, ratio within 0..1, a law")

    def open(self, opening: Opening) -> Drafter:
        """Start it on the requests of one call."""
        from trivium.integrations._transformers.layer_skip import LayerSkipping

        return LayerSkipping(self, opening)


@dataclass(frozen=True)
class HostDrafter:
    """A network of the caller's that drafts in `generate`, under a declared law.

    Attributes
    ----------
    declared : trivium.host_drafts.HostDraft
        How its tokens are chosen; a verifier that would bias them is refused.
    propose : callable
        ``propose(texts, states)`` returns a tree a request: ``(tokens, parents, log_q)`` as in
        `HostDraft.batch`, with node 0 the last token of the text. For chosen drafts the third entry
        is the chance of each path, or left out.
    states : bool
        Hand on the target's last hidden state that chose each text's last token (a tensor [hidden];
        None in a request's first step); without, all are None.
    """

    declared: HostDraft
    propose: Callable[[list[list[int]], list[Any]], Sequence[Any]]
    states: bool = False

    def open(self, opening: Opening) -> Drafter:
        """Start it on the requests of one call."""
        from trivium.integrations._transformers.host_draft import HostDrafting

        return HostDrafting(self, opening)


@dataclass(frozen=True)
class Lookahead:
    """The two-dimensional window of lookahead decoding, run in the target's own pass.

    Attributes
    ----------
    width : int
        Columns of the window, W.
    ngram : int
        Length of an n-gram, N; the window has N - 1 rows.
    guesses : int
        Phrases a token keeps, G.
    from_prompt : bool
        Whether the prompt's n-grams are phrases from the start.
    """

    width: int = 7
    ngram: int = 5
    guesses: int = 7
    from_prompt: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.width < 1 or self.ngram < 3 or self.guesses < 1:
            raise InputError("Lookahead: width, guesses from 1 on, ngram from 3 on")

    def open(self, opening: Opening) -> Drafter:
        """Start it on the requests of one call."""
        from trivium.integrations._transformers.lookahead import LookingAhead

        return LookingAhead(self, opening)


@dataclass(frozen=True)
class Routed:
    """Several draft models, each request served by the one that suits its class.

    Attributes
    ----------
    drafts : sequence of DraftModel
    classes : sequence of str, or callable
        Class of each prompt (its language, domain or cluster), or a function of a prompt's ids.
    router : drafting.DraftRouter
        Over as many drafts; keeps what it learns across calls.
    """

    drafts: Sequence[DraftModel]
    classes: Sequence[str] | Callable[[list[int]], str]
    router: DraftRouter

    def __post_init__(self) -> None:
        """Check the settings."""
        if not self.drafts:
            raise InputError("Routed: no drafts")

    def open(self, opening: Opening) -> Drafter:
        """Start them on the requests of one call."""
        from trivium.integrations._transformers.routing import Routing

        return Routing(self, opening)


@dataclass(frozen=True)
class Cascade:
    """A draft model that is part of the target: the text has the law of both together.

    This is *not* the target's law: ``stats["cascade_deviation"]`` is the mean total variation
    between the two a position.

    Attributes
    ----------
    model : transformers causal language model
        With the target's vocabulary.
    kind : "defer", "cascade" or "contrastive"
        ``"defer"``: the draft model's law where its best token has at least probability `below`,
        else the target's. ``"cascade"``: ``(1 - share) q + share p``. ``"contrastive"``:
        ``p^(1+beta) / q^beta`` where ``p >= alpha max p``.
    below, share, beta, alpha : float
        Their numbers.
    num_tokens : int
        Length of the drafted chain.
    law : "auto", "shared", "point_mass" or "iid"
        As in `DraftModel`.
    """

    model: Any
    kind: str = "defer"
    below: float = 0.5
    share: float = 0.5
    beta: float = 0.5
    alpha: float = 0.1
    num_tokens: int = 4
    law: str = "auto"
    agreement: Agreement = field(default_factory=Agreement, init=False, repr=False, compare=False)
    pace: Pace = field(default_factory=Pace, init=False, repr=False, compare=False)
    width, min_prob, min_node, always = 1, 0.0, 0.0, True
    policy = words = inner = retrieval = replay = None

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.kind not in ("defer", "cascade", "contrastive"):
            raise InputError(f"Cascade: kind {self.kind!r} does not exist")
        if self.num_tokens < 1 or self.law not in _LAWS:
            raise InputError("Cascade: num_tokens from 1 on, and a law of DraftModel")

    def numbers(self) -> dict[str, float]:
        """Give the parameters of the kind."""
        names = {"defer": ["below"], "cascade": ["share"], "contrastive": ["beta", "alpha"]}
        return {name: getattr(self, name) for name in names[self.kind]}

    def open(self, opening: Opening) -> Drafter:
        """Start it on the requests of one call."""
        from trivium.integrations._transformers.cascade import Cascading

        return Cascading(self, opening)
