"""Compiled grammars by what they were made of, shared between threads, bounded in bytes."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from trivium._grammar.arguments import count
from trivium.errors import InputError

if TYPE_CHECKING:
    from trivium._grammar.mask import GrammarMask
    from trivium.vocabulary import Vocabulary

__all__ = ["GrammarCache"]


class GrammarCache:
    """Compiles each grammar once for all threads and keeps the most recent ones.

    The key is the front end, the text, every option and the vocabulary (its object, or one with
    the same digest). A schema given as a dict is the text it is written as. Threads that ask for
    a grammar while it is being compiled wait for that one; its error is theirs, and is not kept.

    Parameters
    ----------
    max_bytes : int, optional
        Bytes of the grammars kept: their texts, automata and masks, as `GrammarMask.report` counts
        them. They grow as texts reach new states, so they are counted anew at every compile, and
        by `memory`. Beyond it the least recently asked for go; who holds one keeps it.

    Examples
    --------
    >>> from trivium import GrammarMask, Vocabulary
    >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
    >>> cache = GrammarCache()
    >>> a = cache.json_schema({"type": "integer"}, vocab)
    >>> cache.json_schema({"type": "integer"}, vocab) is a
    True
    >>> len(cache), cache.hits, cache.misses
    (1, 1, 1)
    """

    def __init__(self, max_bytes: int = 256 << 20) -> None:
        self._most = count("max_bytes", max_bytes, 0)
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], GrammarMask] = OrderedDict()
        self._running: dict[tuple[Any, ...], Future[GrammarMask]] = {}
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        """Count the grammars kept."""
        return len(self._kept)

    def regex(self, pattern: str, vocab: Vocabulary, **options: Any) -> GrammarMask:
        """As `GrammarMask.regex`, from the cache."""
        return self._get("regex", pattern, vocab, options)

    def grammar(self, text: str, vocab: Vocabulary, **options: Any) -> GrammarMask:
        """As `GrammarMask.grammar`, from the cache."""
        return self._get("grammar", text, vocab, options)

    def json_schema(
        self, schema: str | bool | Mapping[str, Any], vocab: Vocabulary, **options: Any
    ) -> GrammarMask:
        """As `GrammarMask.json_schema`, from the cache."""
        return self._get("json_schema", schema, vocab, options)

    def choices(self, texts: Any, vocab: Vocabulary, **options: Any) -> GrammarMask:
        """As `GrammarMask.choices`, from the cache."""
        return self._get(
            "choices", tuple(texts) if not isinstance(texts, str) else texts, vocab, options
        )

    def memory(self) -> int:
        """Count the bytes held, and let grammars go that have outgrown the bound."""
        with self._lock:
            return self._trim()

    def clear(self) -> None:
        """Let all grammars go."""
        with self._lock:
            self._kept.clear()

    def _get(
        self, front: str, source: Any, vocab: Vocabulary, options: dict[str, Any]
    ) -> GrammarMask:
        cancel = options.get("cancel")  # ends a call; no property of a grammar
        kept = {k: v for k, v in options.items() if k != "cancel"}
        key = (front, _text(source), _text(kept), vocab.digest, vocab.num_rows)
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                self.hits += 1
                return found
            waiting = self._running.get(key)
            if waiting is None:
                self.misses += 1
                mine: Future[GrammarMask] = Future()
                self._running[key] = mine
            else:
                self.hits += 1
        if waiting is not None:
            return waiting.result()
        try:
            made = self._make(front, source, vocab, kept, cancel)
        except BaseException as e:
            with self._lock:
                del self._running[key]
            mine.set_exception(e)
            raise
        with self._lock:
            del self._running[key]
            self._kept[key] = made
            self._trim()
        mine.set_result(made)
        return made

    def _make(
        self, front: str, source: Any, vocab: Vocabulary, options: dict[str, Any], cancel: Any
    ) -> GrammarMask:
        from trivium._grammar.mask import GrammarMask

        made: GrammarMask = getattr(GrammarMask, front)(source, vocab, cancel=cancel, **options)
        return made

    def _trim(self) -> int:
        sizes = {key: _size(key, grammar) for key, grammar in self._kept.items()}
        total = sum(sizes.values())
        while total > self._most and self._kept:
            key, _ = self._kept.popitem(last=False)
            total -= sizes[key]
        return total


def _size(key: tuple[Any, ...], grammar: GrammarMask) -> int:
    report = grammar.report()
    return 2 * len(key[1]) + len(key[2]) + report.automaton_bytes + report.mask_bytes


def _text(value: Any) -> str:
    """Write what a grammar is made of; the order of a dict's members stays, it may matter."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError, RecursionError) as e:
        raise InputError(f"cache: no key can be made of it: {e}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is no text, number, list or dict")
