"""Mask engines side by side for ``trivium mask bench --against``: this one and installed peers.

An engine compiles a schema's text, starts a matcher, fills one row of 32-bit words and advances by
a token. All run on one thread over the same vocabulary.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from trivium.errors import InputError, MissingExtraError
from trivium.grammar import GrammarMask

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from trivium.vocabulary import Vocabulary

__all__ = ["PEERS", "Engine", "LLGuidance", "Trivium", "XGrammar", "peer"]


class Engine(Protocol):
    """What the benchmark asks of an engine."""

    name: str
    row: NDArray[np.int32]

    def compile(self, schema: str) -> Any:
        """Compile a schema's text; any exception is a refusal."""

    def start(self, compiled: Any) -> Any:
        """Make a matcher at the empty text."""

    def fill(self, matcher: Any) -> None:
        """Write the mask into `row`."""

    def advance(self, matcher: Any, token: int) -> bool:
        """Commit a token."""

    def ends(self, matcher: Any) -> bool:
        """Whether the text may end."""


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as e:
        raise MissingExtraError(f"pip install {name}") from e


class Trivium:
    """`GrammarMask`."""

    name = "trivium"

    def __init__(self, vocab: Vocabulary, **options: Any) -> None:
        self.vocab, self.options = vocab, options
        self.row = np.zeros((vocab.num_rows + 31) // 32, dtype=np.int32)

    def compile(self, schema: str) -> Any:
        """See `Engine`."""
        return GrammarMask.json_schema(schema, self.vocab, **self.options)

    def start(self, compiled: Any) -> Any:
        """See `Engine`."""
        return compiled.matcher()

    def fill(self, matcher: Any) -> None:
        """See `Engine`."""
        matcher.fill(self.row)

    def advance(self, matcher: Any, token: int) -> bool:
        """See `Engine`."""
        return bool(matcher.commit(token))

    def ends(self, matcher: Any) -> bool:
        """See `Engine`."""
        return bool(matcher.is_accepting())


class LLGuidance:
    """llguidance over the same token bytes, strict about unknown keywords."""

    name = "llguidance"

    def __init__(self, vocab: Vocabulary) -> None:
        self._ll = llguidance = _import("llguidance")
        special = {**{t: f"<|end{t}|>" for t in vocab.eos}, **vocab.special}
        texts: dict[bytes, int] = {}
        for t in range(len(vocab)):
            if t not in special and vocab.token(t):
                texts.setdefault(vocab.token(t), t)
        self._tokenizer = llguidance.LLTokenizer.from_tiktoken(
            encoder=texts,
            special_tokens={name: t for t, name in special.items()},
            pattern=r"[\s\S]",
            eos_token=vocab.eos[0],
            n_vocab=vocab.num_rows,
            slices=None,
        )
        self._eos = vocab.eos[0]
        self.row = np.zeros((vocab.num_rows + 31) // 32, dtype=np.int32)

    def compile(self, schema: str) -> Any:
        """See `Engine`."""
        grammar = self._ll.LLMatcher.grammar_from_json_schema(schema)
        matcher = self._ll.LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise InputError(matcher.get_error())
        return matcher

    def start(self, compiled: Any) -> Any:
        """See `Engine`."""
        return compiled.deep_copy()

    def fill(self, matcher: Any) -> None:
        """See `Engine`."""
        matcher.unsafe_compute_mask_ptr(self.row.ctypes.data, self.row.nbytes)

    def advance(self, matcher: Any, token: int) -> bool:
        """See `Engine`."""
        return bool(matcher.consume_token(token))

    def ends(self, matcher: Any) -> bool:
        """See `Engine`."""
        self.fill(matcher)
        return bool(self.row[self._eos >> 5] >> (self._eos & 31) & 1)


class XGrammar:
    """XGrammar with its defaults, on one thread."""

    name = "xgrammar"

    def __init__(self, vocab: Vocabulary) -> None:
        self._xgr = xgrammar = _import("xgrammar")
        tokens = [vocab.token(t) for t in range(len(vocab))]
        info = xgrammar.TokenizerInfo(
            tokens,
            vocab_type=xgrammar.VocabType.RAW,
            vocab_size=vocab.num_rows,
            stop_token_ids=vocab.eos,
        )
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=1)
        self._bits = xgrammar.allocate_token_bitmask(1, vocab.num_rows)
        self._eos = vocab.eos[0]
        self.row = self._bits[0].numpy()

    def compile(self, schema: str) -> Any:
        """See `Engine`."""
        return self._compiler.compile_json_schema(schema)

    def start(self, compiled: Any) -> Any:
        """See `Engine`."""
        return self._xgr.GrammarMatcher(compiled)

    def fill(self, matcher: Any) -> None:
        """See `Engine`."""
        if not matcher.fill_next_token_bitmask(self._bits):
            self._bits.fill_(-1)  # all tokens are allowed

    def advance(self, matcher: Any, token: int) -> bool:
        """See `Engine`."""
        return bool(matcher.accept_token(token))

    def ends(self, matcher: Any) -> bool:
        """See `Engine`."""
        self.fill(matcher)
        return bool(self.row[self._eos >> 5] >> (self._eos & 31) & 1)


PEERS: dict[str, Callable[[Vocabulary], Engine]] = {"llguidance": LLGuidance, "xgrammar": XGrammar}
"""Engines that ``--against`` names."""


def peer(name: str, vocab: Vocabulary) -> Engine:
    """Make an installed engine by name."""
    if name not in PEERS:
        raise InputError(f"against: {name!r} is not one of {', '.join(PEERS)}")
    return PEERS[name](vocab)
