"""ASAp: samples that approach the model's law given the language, learned from earlier samples.

Park et al., "Grammar-Aligned Decoding".

Let ``c(w)`` be the probability that the model completes the prefix `w` within the language. The
law given the language draws ``v`` in proportion to ``P(v | w) c(w v)``. ASAp keeps over-estimates
of `c` in a trie of the prefixes it has visited:

    0                                       w is no prefix of a text of the language
    1                                       never visited, or a complete text
    sum over allowed v of P(v | w) c(w v)   visited

Each sample lowers them; they never fall below `c`, and the law of the samples tends to the law
given the language. The trie belongs to one prompt: keep the object across its samples, or
`save` it.

A node keeps the mass of its children that have no node as one number, so memory is one node a token
drawn, never a row. Cost of a step: a few passes over the row, and the children that have nodes.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.constrained._chance import allowed, at_least, chance, log_softmax
from trivium.errors import InputError, LimitExceeded, StateError
from trivium.grammar import GrammarMask

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trivium.constrained._chance import Chance, Rng
    from trivium.grammar import Matcher

__all__ = ["Asap", "AsapWalk"]


class _Node:
    __slots__ = ("children", "rest", "value")

    def __init__(self) -> None:
        self.children: dict[int, tuple[float, _Node]] = {}
        self.rest = 1.0  # mass of the allowed children without a node
        self.value = 1.0  # the over-estimate

    def update(self) -> None:
        mass = self.rest + math.fsum(p * child.value for p, child in self.children.values())
        self.value = min(1.0, mass)


class Asap:
    """Over-estimates of the mass of completions, shared by the samples of one prompt.

    Parameters
    ----------
    grammar : GrammarMask
    max_nodes : int, optional
        Prefixes kept, about 400 bytes each. At the limit samples go on with what is known and the
        law stops improving.

    Examples
    --------
    >>> from trivium import GrammarMask, Vocabulary
    >>> vocab = Vocabulary([b"a", b"b", b""], eos=[2])
    >>> asap = Asap(GrammarMask.choices(["ab", "b"], vocab))
    >>> walk = asap.walk(rng=0)
    >>> while not walk.done:
    ...     token = walk.step([0.0, 0.0, 0.0])  # the model's row after walk.tokens
    >>> asap.estimate() < 1.0
    True
    """

    __slots__ = ("_count", "_grammar", "_max", "_root")

    def __init__(self, grammar: GrammarMask, *, max_nodes: int = 1_000_000) -> None:
        if not isinstance(grammar, GrammarMask):
            raise InputError(f"grammar: {type(grammar).__name__} is no GrammarMask")
        self._grammar = grammar
        self._max = at_least("max_nodes", max_nodes, 1)
        self._root = _Node()
        self._count = 1

    def __len__(self) -> int:
        """Nodes of the trie, the empty prefix included."""
        return self._count

    def walk(self, *, rng: Rng) -> AsapWalk:
        """Begin a sample; several may be under way at once.

        Parameters
        ----------
        rng : numpy.random.Generator, int, or an object with ``categorical(weights) -> int``
            An int is a seed.

        Returns
        -------
        AsapWalk
        """
        return AsapWalk._begin(self, self._grammar.matcher(), chance(rng))

    def estimate(self, prefix: Sequence[int] = ()) -> float:
        """Tell the over-estimate of the mass of completions of a prefix.

        Parameters
        ----------
        prefix : sequence of int

        Returns
        -------
        float
            1 for a prefix that was never visited and for complete texts, 0 for one that the
            grammar does not allow.

        Raises
        ------
        TokenError
            An id outside the vocabulary.
        """
        tokens = [int(t) for t in prefix]
        node: _Node | None = self._root
        for token in tokens:
            node = None if node is None else node.children.get(token, (0.0, None))[1]
        if node is not None:
            return node.value
        return 1.0 if self._grammar.matcher().validate(tokens) == len(tokens) else 0.0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trie, for later samples of the same prompt: a NumPy archive, 28 bytes a node.

        Raises
        ------
        InputError
            The path cannot be written.
        """
        rows: list[tuple[int, int, float, float, float]] = [
            (-1, -1, 1.0, self._root.rest, self._root.value)
        ]
        layer = [(0, self._root)]
        while layer:
            following = []
            for at, node in layer:
                for token, (p, child) in node.children.items():
                    following.append((len(rows), child))
                    rows.append((at, token, p, child.rest, child.value))
            layer = following
        parents, tokens, *numbers = zip(*rows, strict=True)
        try:
            with Path(path).open("wb") as file:
                np.savez_compressed(
                    file,
                    format=np.array("trivium-asap-1"),
                    vocab=np.array(self._grammar.vocab.digest, np.uint64),
                    parents=np.array(parents, np.int32),
                    tokens=np.array(tokens, np.int32),
                    numbers=np.array(numbers, np.float64),
                )
        except OSError as e:
            raise InputError(f"path: {path} cannot be written: {e}") from None

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], grammar: GrammarMask, *, max_nodes: int = 1_000_000
    ) -> Asap:
        """Read a trie that `save` wrote, for the same prompt, model and grammar.

        Parameters
        ----------
        path : str or path
        grammar : GrammarMask
            That of the samples; its vocabulary is checked, the language is the caller's to match.
        max_nodes : int, optional
            As for the constructor.

        Raises
        ------
        InputError
            The file cannot be read, is damaged, or was made for another vocabulary.
        LimitExceeded
            It holds more nodes.
        """
        self = cls(grammar, max_nodes=max_nodes)
        digest = grammar.vocab.digest
        try:
            with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                kind, made_for = str(file["format"]), int(file["vocab"])
                parents, tokens, numbers = file["parents"], file["tokens"], file["numbers"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError, TypeError) as e:
            raise InputError(f"path: {path} is no saved trie: {e}") from None
        if kind == "trivium-asap-1" and made_for != digest:
            raise InputError(f"path: made for vocabulary {made_for:x}, this one is {digest:x}")
        n = len(parents) if parents.ndim == 1 else 0
        sound = (
            kind == "trivium-asap-1"
            and n > 0
            and parents.dtype == tokens.dtype == np.int32
            and tokens.shape == (n,)
            and numbers.shape == (3, n)
            and bool(((numbers >= 0.0) & (numbers <= 1.0 + 1e-9)).all())
            and parents[0] == -1
            and bool(((parents[1:] >= 0) & (parents[1:] < np.arange(1, n))).all())
            and bool(((tokens[1:] >= 0) & (tokens[1:] < grammar.vocab.num_rows)).all())
        )
        if not sound:
            raise InputError(f"path: {path} is damaged")
        if n > self._max:
            raise LimitExceeded(f"{n} nodes, max_nodes={self._max}")
        nodes = [self._root, *(_Node() for _ in range(n - 1))]
        columns = zip(parents.tolist(), tokens.tolist(), *numbers.tolist(), strict=True)
        for node, (parent, token, p, rest, value) in zip(nodes, columns, strict=True):
            node.rest, node.value = rest, value
            if parent >= 0:
                if token in nodes[parent].children:
                    raise InputError(f"path: {path} is damaged: a child stands twice")
                nodes[parent].children[token] = (p, node)
        self._count = n
        return self

    def _child(self, node: _Node, token: int, p: float) -> _Node | None:
        known = node.children.get(token)
        if known is not None:
            return known[1]
        if self._count >= self._max:
            return None
        child = _Node()
        node.children[token] = (p, child)
        self._count += 1
        return child


class AsapWalk:
    """One sample: the host gives the model's rows, the walk draws the tokens.

    Made by `Asap.walk`.

    Attributes
    ----------
    tokens : list of int
        Drawn so far, the end-of-sequence token included.
    done : bool
        Whether the text is complete, the walk is dead, or `close` was called.
    finished : bool
        Whether the text is complete, hence in the language.
    log_weight : float
        Log of the model's probability of the text over the probability of drawing it here:
        ``E[weight * 1(finished)] = P(L)`` whatever was learned before.
    """

    __slots__ = (
        "_asap",
        "_chance",
        "_matcher",
        "_path",
        "done",
        "finished",
        "log_weight",
        "tokens",
    )

    _asap: Asap
    _chance: Chance
    _matcher: Matcher
    _path: list[_Node | None]
    tokens: list[int]
    done: bool
    finished: bool
    log_weight: float

    def __init__(self) -> None:
        raise InputError("AsapWalk: use Asap.walk()")

    @classmethod
    def _begin(cls, asap: Asap, matcher: Matcher, source: Chance) -> AsapWalk:
        self = cls.__new__(cls)
        self._asap, self._matcher, self._chance = asap, matcher, source
        self._path = [asap._root]
        self.tokens = []
        self.done = self.finished = False
        self.log_weight = 0.0
        return self

    def step(self, logits: Any) -> int | None:
        """Draw the next token.

        Parameters
        ----------
        logits : float array, shape (V,)
            The model's row after `tokens`: its own law, temperature 1 unless that is the law meant.

        Returns
        -------
        int or None
            None if the model gives no mass to what the grammar allows; the walk is then done, and
            later samples avoid the prefix.

        Raises
        ------
        StateError
            The walk is done.
        InputError
            Shape, NaN, a row of minus infinity.
        """
        if self.done:
            raise StateError("step: the walk is done; begin another with Asap.walk()")
        row = log_softmax(logits)
        if row.ndim != 1:
            raise InputError(f"logits: shape {row.shape} is not one row")
        p = np.where(allowed(self._matcher, len(row)), np.exp(row), 0.0)
        node = self._path[-1]
        weights = p.copy()
        if node is not None:
            _scale(weights, node)
        mass = float(weights.sum())
        if mass <= 0.0:
            if node is not None:
                node.rest = 0.0
            self.log_weight = -math.inf
            self.close()
            return None
        token = self._chance.categorical(weights)
        estimate = float(weights[token] / p[token])
        self._matcher.commit(token)
        self.tokens.append(token)
        self.log_weight += math.log(mass) - math.log(estimate)
        self.finished = self._matcher.is_finished()
        if node is not None:
            # A complete text keeps the value 1 and needs no node.
            child = None if self.finished else self._asap._child(node, token, float(p[token]))
            p[list(node.children)] = 0.0
            node.rest = float(p.sum())
            self._path.append(child)
        else:
            self._path.append(None)
        if self.finished:
            self.close()
        return token

    def close(self) -> None:
        """End the sample and carry what it learned to the root; called by the last `step`.

        Call it where the host stops early, at a limit of length. Without it nothing wrong is
        learned, only less.
        """
        for node in reversed(self._path):
            if node is not None:
                node.update()
        self._path = []
        self.done = True


def _scale(weights: NDArray[np.float64], node: _Node) -> None:
    for token, (_, child) in node.children.items():
        if token >= len(weights):
            raise InputError(f"logits: {len(weights)} entries; an earlier row had more")
        weights[token] *= child.value
