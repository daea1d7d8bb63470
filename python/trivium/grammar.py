"""`GrammarMask`: allows exactly the tokens that keep the text in a language.

A grammar is compiled once and shared; each sequence has a `Matcher`. The masks are exact: a token
is allowed if and only if the text can still be completed after it, by every tokenisation.

The host's loop is ``fill`` (or ``apply``), sample, ``commit``. Under speculation the host shows
prefixes that go back and forth: ``sync`` takes any of them, ``fill_tree`` masks a whole draft tree.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, SupportsIndex, overload

from trivium._core import GrammarMask as CoreGrammarMask
from trivium._core import Matcher as CoreMatcher
from trivium._core import Vocabulary as CoreVocabulary
from trivium._core import after_trigger as core_after
from trivium._core import combine_grammars as core_combine
from trivium._core import fill_batch as core_fill_batch
from trivium._core import island_grammar as core_islands
from trivium._core import phrase_grammar as core_phrases
from trivium._core import span_grammar as core_spans
from trivium.errors import InputError, InvalidSchema, StateError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from trivium.vocabulary import Vocabulary

__all__ = ["Explanation", "GrammarMask", "GrammarReport", "Matcher", "fill_batch"]

# References into the document itself.
_INSIDE = re.compile(r'"\$(?:dynamic|recursive)?[rR]ef"\s*:\s*"#[^"]*"')

Dialect = Literal["rust", "ecma", "python"]


@dataclass(frozen=True, slots=True)
class GrammarReport:
    """What a grammar guarantees and what it holds.

    Attributes
    ----------
    kind : str
        The front end, for example ``"regex"``, ``"choices"``, ``"and"``.
    sound : bool
        S: every text that ends with an allowed end token is in the language.
    complete : bool
        C: every text of the language is reachable, by every tokenisation.
    no_dead_end : bool
        D: from every reachable state a finite completion exists in tokens. False if the vocabulary
        lacks single bytes, so that a completion may exist that no tokens spell.
    relaxed : list of str
        What was weakened; always empty for regular expressions.
    warnings : list of str
        What the user should know.
    states, expanded, automaton_bytes : int
        Automaton states made so far, those left at least once, bytes held.
    masks, mask_bytes : int
        Masks kept, and their bytes.
    slices, slice_bytes : int
        Shared parts of masks that this vocabulary keeps for all grammars, and their bytes.
    """

    kind: str
    sound: bool
    complete: bool
    no_dead_end: bool
    relaxed: list[str]
    warnings: list[str]
    states: int
    expanded: int
    automaton_bytes: int
    masks: int
    mask_bytes: int
    slices: int
    slice_bytes: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """How far a text gets.

    Attributes
    ----------
    accepted : int
        Bytes read before the first that no text of the language has there.
    viable : bool
        Whether the whole prefix was read.
    accepting : bool
        Whether the part read is a complete text.
    next_bytes : list of (int, int)
        Closed ranges of bytes that may follow the part read.
    """

    accepted: int
    viable: bool
    accepting: bool
    next_bytes: list[tuple[int, int]]


def _count(name: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name}: {value!r} is not an integer") from None
    if not least <= number < 1 << 40:
        raise InputError(f"{name}: {number} is out of range, from {least} up")
    return number


def _budgets(
    max_states: int, max_bytes: int, max_ms: int, mask_bytes: int
) -> tuple[int, int, int, int]:
    return (
        _count("max_states", max_states, 1),
        _count("max_bytes", max_bytes, 1),
        _count("max_ms", max_ms, 0),
        _count("mask_bytes", mask_bytes, 0),
    )


def _core_vocab(vocab: Vocabulary) -> CoreVocabulary:
    core = getattr(vocab, "_core", None)
    if not isinstance(core, CoreVocabulary):
        raise InputError(f"vocab: {type(vocab).__name__} is not a trivium.Vocabulary")
    return core


def _bytes(name: str, text: str | bytes) -> bytes:
    if isinstance(text, str):
        try:
            return text.encode()
        except UnicodeEncodeError:
            raise InputError(f"{name}: lone surrogates are no text") from None
    if not isinstance(text, bytes):
        raise InputError(f"{name}: {type(text).__name__} is not str or bytes")
    return text


def _trigger(given: str | int | Sequence[int]) -> str | list[int]:
    """Check a trigger: a text, or ids of special tokens."""
    if isinstance(given, str):
        _bytes("trigger", given)
        return given
    try:
        ids = [given] if isinstance(given, SupportsIndex) else list(given)
    except TypeError:
        raise InputError(f"trigger: {type(given).__name__} is not str, int or a list") from None
    return [min(_count("trigger", t, 0), (1 << 32) - 1) for t in ids]


def _json_text(name: str, value: object) -> str:
    """Give the JSON text of a schema, which may be one already."""
    if isinstance(value, str):
        _bytes(name, value)
        return value
    if isinstance(value, Mapping):
        value = dict(value)
    elif not isinstance(value, bool):
        raise InputError(f"{name}: {type(value).__name__} is not a str, dict or bool")
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as e:
        raise InvalidSchema(f"{name}: {e}") from None


def _whitespace(given: str | tuple[str, int]) -> str | int:
    if isinstance(given, str):
        return given
    if isinstance(given, tuple) and len(given) == 2 and given[0] == "indent":
        width = _count("whitespace", given[1], 0)
        if width <= 16:
            return width
    raise InputError(f"whitespace: {given!r} is not a name, a pattern or ('indent', 0 to 16)")


class GrammarMask:
    """A compiled grammar over one vocabulary: immutable, shared between threads and sequences.

    Made by a front end: `regex`, `choices` or `json_schema`. Compiling takes time proportional to
    the pattern; states and masks are made when texts reach them and are kept for all matchers.

    Examples
    --------
    >>> from trivium import Vocabulary
    >>> from trivium.grammar import GrammarMask
    >>> vocab = Vocabulary([b"a", b"b", b"ab", b""], eos=[3])
    >>> g = GrammarMask.regex("(ab)+", vocab)
    >>> m = g.matcher()
    >>> [t for t in range(4) if m.allows(t)]
    [0, 2]
    >>> m.commit([2, 0])
    2
    >>> m.is_accepting(), m.forced_bytes()
    (False, b'b')
    """

    __slots__ = ("_core", "_vocab")

    _core: CoreGrammarMask
    _vocab: Vocabulary

    def __init__(self) -> None:
        raise InputError("GrammarMask: use GrammarMask.regex, .choices or .json_schema")

    @classmethod
    def _wrap(cls, core: CoreGrammarMask, vocab: Vocabulary) -> Self:
        self = cls.__new__(cls)
        self._core = core
        self._vocab = vocab
        return self

    @classmethod
    def regex(
        cls,
        pattern: str,
        vocab: Vocabulary,
        *,
        dialect: Dialect = "rust",
        full: bool = True,
        max_states: int = 100_000,
        max_bytes: int = 64 << 20,
        max_ms: int = 2_000,
        mask_bytes: int = 64 << 20,
    ) -> Self:
        r"""Make the grammar of a regular expression.

        Parameters
        ----------
        pattern : str
            The expression. Unicode is on; lazy quantifiers match the same texts as greedy ones;
            ``^ $ \A \z \b \B`` and the multi-line flag are exact.
        vocab : Vocabulary
            Whose tokens are masked.
        dialect : {"rust", "ecma", "python"}, optional
            How `pattern` is written: as Rust's ``regex`` crate has it; as ECMA-262 has it, for
            JSON Schema; as `re` has it for ``str``. The latter two have look-around, and
            back-references to groups of at most 64 texts.
        full : bool, optional
            True: the whole text must match. False: the text must contain a match.
        max_states : int, optional
            Budget of automaton states, during generation too; at most 2**24.
        max_bytes : int, optional
            Budget of the automaton's bytes, during generation too.
        max_ms : int, optional
            Budget of this call in milliseconds.
        mask_bytes : int, optional
            Bytes of masks kept for states met before; beyond it the least recent go.

        Returns
        -------
        GrammarMask

        Raises
        ------
        InvalidGrammar
            The pattern cannot be parsed; ``offset`` is the byte.
        UnsupportedPattern
            A dialect or construct that is not served.
        UnsatisfiableError
            No text matches.
        LimitExceeded
            A budget; ``limit``, ``value`` and ``budget`` say which.

        Examples
        --------
        >>> from trivium import Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> g = GrammarMask.regex(r"\d{4}-\d\d", vocab)
        >>> g.matches("2024-05"), g.matches("2024-5")
        (True, False)
        """
        if not isinstance(pattern, str):
            raise InputError(f"pattern: {type(pattern).__name__} is not str")
        _bytes("pattern", pattern)
        budgets = _budgets(max_states, max_bytes, max_ms, mask_bytes)
        core = CoreGrammarMask.regex(pattern, _core_vocab(vocab), dialect, bool(full), budgets)
        return cls._wrap(core, vocab)

    @classmethod
    def grammar(
        cls,
        text: str,
        vocab: Vocabulary,
        *,
        syntax: Literal["ebnf", "gbnf", "lark"] = "ebnf",
        start: str | None = None,
        max_states: int = 100_000,
        max_bytes: int = 64 << 20,
        max_ms: int = 5_000,
        mask_bytes: int = 64 << 20,
    ) -> Self:
        r"""Make a context-free grammar.

        Left recursion, ambiguity and empty rules are served; nesting has no limit but memory.

        Parameters
        ----------
        text : str
            The grammar. Operators of both syntaxes: ``| ( ) * + ?``, texts, classes,
            ``/pattern/``, ``<|name|>`` and ``<[ids]>`` for special tokens, ``%json {...}``, ``&``
            and ``~`` between terminals.
        vocab : Vocabulary
            Whose tokens are masked.
        syntax : {"ebnf", "gbnf", "lark"}, optional
            ``"ebnf"`` and ``"gbnf"``: rules ``name ::= ...`` over characters. ``"lark"``: rules
            ``name: ...`` over terminals, which are longest matches; ``%ignore`` and
            ``%import common.NAME``.
        start : str, optional
            The rule of the whole text; by default ``root``, ``start`` or the first.
        max_states, max_bytes, max_ms, mask_bytes : int, optional
            As in `regex`.

        Returns
        -------
        GrammarMask

        Raises
        ------
        InvalidGrammar
            The grammar cannot be read; the message says line and column.
        UnsupportedPattern
            A construct that is not served.
        UnsatisfiableError
            The start matches no text.
        LimitExceeded
            A budget.

        Examples
        --------
        >>> from trivium import Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> g = GrammarMask.grammar('root ::= root "+" [0-9]+ | [0-9]+ | "(" root ")"', vocab)
        >>> g.matches("1+(2+34)"), g.matches("1+")
        (True, False)
        """
        if not isinstance(text, str):
            raise InputError(f"text: {type(text).__name__} is not str")
        _bytes("text", text)
        budgets = _budgets(max_states, max_bytes, max_ms, mask_bytes)
        core = CoreGrammarMask.grammar(text, _core_vocab(vocab), syntax, start, budgets)
        return cls._wrap(core, vocab)

    @classmethod
    def choices(
        cls,
        texts: Iterable[str],
        vocab: Vocabulary,
        *,
        max_states: int = 100_000,
        max_bytes: int = 64 << 20,
        max_ms: int = 2_000,
        mask_bytes: int = 64 << 20,
    ) -> Self:
        """Make the grammar of exactly the given texts.

        Parameters
        ----------
        texts : iterable of str
            The texts, in any order.
        vocab : Vocabulary
            Whose tokens are masked.
        max_states, max_bytes, max_ms, mask_bytes : int, optional
            As in `regex`.

        Returns
        -------
        GrammarMask

        Raises
        ------
        UnsatisfiableError
            `texts` is empty.
        LimitExceeded
            A budget.

        Examples
        --------
        >>> from trivium import Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> m = GrammarMask.choices(["yes", "yellow"], vocab).matcher()
        >>> m.forced_bytes()
        b'ye'
        """
        if isinstance(texts, str):
            raise InputError("texts: one str; a list of them is expected")
        texts = list(texts)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"texts: entry {i} is {type(text).__name__}, not str")
            _bytes("texts", text)
        budgets = _budgets(max_states, max_bytes, max_ms, mask_bytes)
        return cls._wrap(CoreGrammarMask.choices(texts, _core_vocab(vocab), budgets), vocab)

    @classmethod
    def json_schema(
        cls,
        schema: str | bool | Mapping[str, Any],
        vocab: Vocabulary,
        *,
        order: Literal["schema", "any"] = "schema",
        additional: Literal["spec", "closed"] = "spec",
        whitespace: str | tuple[Literal["indent"], int] = "flex",
        escapes: Literal["minimal", "any"] = "minimal",
        numbers: Literal["plain", "any"] = "plain",
        formats: Literal["assert", "annotate"] | Collection[str] = "assert",
        digits: int | None = None,
        on_unsupported: Literal["error", "relax"] = "error",
        remotes: Mapping[str, str | bool | Mapping[str, Any]] | None = None,
        max_cells: int = 20_000,
        max_states: int = 100_000,
        max_bytes: int = 64 << 20,
        max_ms: int = 2_000,
        mask_bytes: int = 64 << 20,
    ) -> Self:
        r"""Make the grammar of the JSON texts that satisfy a JSON Schema.

        Drafts 4 to 2020-12, chosen by ``$schema`` (2020-12 without it). Every keyword is enforced
        exactly or the schema is refused; nothing is dropped in silence. What the options say is how
        a valid *value* may be *spelled*.

        Parameters
        ----------
        schema : str, dict or bool
            The schema, or its text.
        vocab : Vocabulary
            Whose tokens are masked.
        order : {"schema", "any"}, optional
            Order of an object's members: as ``properties`` lists them, then names that only
            ``required`` has, then undeclared ones; or free.
        additional : {"spec", "closed"}, optional
            ``"closed"`` refuses undeclared members where a schema has ``properties`` and is silent
            about others.
        whitespace : {"flex", "compact", "any"}, ("indent", n) or str, optional
            Between the tokens of JSON: up to 64 characters, none, any number, a line each, or a
            pattern of the Rust dialect. Never before the value or after it.
        escapes : {"minimal", "any"}, optional
            ``"any"`` also accepts ``\uXXXX`` for every character.
        numbers : {"plain", "any"}, optional
            ``"plain"``: integers without fraction, no exponent where a bound or divisor applies.
            ``"any"``: every JSON spelling, within exponents of 308 and 400 digits.
        formats : {"assert", "annotate"} or collection of str, optional
            Which formats are enforced: those that are known, none, or these.
        digits : int, optional
            Most digits of a number, a guard against endless ones. Gives up completeness.
        on_unsupported : {"error", "relax"}, optional
            ``"relax"`` drops a keyword that cannot be enforced and lists it in `report`.
        remotes : dict, optional
            Other documents by address. Nothing is ever fetched.
        max_cells : int, optional
            Budget of the alternatives that one combination of schemas multiplies out to.
        max_states, max_bytes, max_ms, mask_bytes : int, optional
            As in `regex`.

        Returns
        -------
        GrammarMask

        Raises
        ------
        InvalidSchema
            The text is no schema; ``path``, ``keyword`` and ``why``.
        UnsupportedSchema
            Something cannot be enforced; ``path``, ``keyword``, ``reason`` and ``hint``.
        UnsatisfiableError
            No value satisfies it.
        LimitExceeded
            A budget.

        Examples
        --------
        >>> from trivium import Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> g = GrammarMask.json_schema(
        ...     {"properties": {"n": {"minimum": 3}}, "required": ["n"], "maxProperties": 1}, vocab
        ... )
        >>> g.matches('{"n": 12}'), g.matches('{"n": 2}'), g.matches('[{"n": 2}]')
        (True, False, True)
        """
        text = _json_text("schema", schema)
        # A schema that points nowhere else needs none of the other documents but its dialect.
        outside = "\\u" in text or len(_INSIDE.findall(text)) < text.lower().count('ref"')
        options: dict[str, Any] = {
            "order": order,
            "additional": additional,
            "whitespace": _whitespace(whitespace),
            "escapes": escapes,
            "numbers": numbers,
            "formats": formats if isinstance(formats, str) else [str(f) for f in formats],
            "on_unsupported": on_unsupported,
            "remotes": {
                str(k): _json_text(f"remotes[{k!r}]", v)
                for k, v in (remotes or {}).items()
                if outside or k in text
            },
            "digits": None if digits is None else _count("digits", digits, 1),
            "max_cells": _count("max_cells", max_cells, 1),
        }
        for key in ("order", "additional", "escapes", "numbers", "on_unsupported"):
            if not isinstance(options[key], str):
                raise InputError(f"{key}: {type(options[key]).__name__} is not str")
        if options["on_unsupported"] == "shadow":
            raise UnsupportedError(
                "on_unsupported: shadow validation is not built; error and relax are"
            )
        budgets = _budgets(max_states, max_bytes, max_ms, mask_bytes)
        return cls._wrap(
            CoreGrammarMask.json_schema(text, _core_vocab(vocab), options, budgets), vocab
        )

    @classmethod
    def phrases(
        cls,
        vocab: Vocabulary,
        *,
        must: Iterable[str | Iterable[str]] = (),
        never: Iterable[str] = (),
        ignore_case: bool = False,
        whole_words: bool = False,
        max_states: int = 100_000,
        max_bytes: int = 64 << 20,
        max_ms: int = 2_000,
        mask_bytes: int = 64 << 20,
    ) -> Self:
        """Make the grammar of free texts that contain some phrases and none of others.

        A phrase is one of characters: every tokenisation of it counts.

        Parameters
        ----------
        vocab : Vocabulary
            Whose tokens are masked.
        must : iterable of str or of iterables of str, optional
            Each must occur; of a group (the forms of a word) one.
        never : iterable of str, optional
            None may occur.
        ignore_case : bool, optional
            Whether case is ignored.
        whole_words : bool, optional
            Whether a phrase counts only where no word character touches it.
        max_states, max_bytes, max_ms, mask_bytes : int, optional
            As in `regex`. What must occur multiplies the states, by up to two for each group.

        Returns
        -------
        GrammarMask

        Raises
        ------
        InputError
            An empty phrase or group.
        UnsatisfiableError
            What must occur contains what must not.
        LimitExceeded
            A budget.

        Examples
        --------
        >>> from trivium import Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> g = GrammarMask.phrases(vocab, must=[["walk", "walked"]], never=["run"])
        >>> g.matches("We walked home."), g.matches("We ran."), g.matches("walk and run")
        (True, False, False)
        """
        if isinstance(must, str) or isinstance(never, str):
            raise InputError("must, never: one str; lists are expected")
        groups = [[g] if isinstance(g, str) else list(g) for g in must]
        none = list(never)
        for text in [*none, *(t for g in groups for t in g)]:
            if not isinstance(text, str):
                raise InputError(f"phrases: {type(text).__name__} is not str")
            _bytes("phrases", text)
        budgets = _budgets(max_states, max_bytes, max_ms, mask_bytes)
        core = core_phrases(
            groups, none, bool(ignore_case), bool(whole_words), _core_vocab(vocab), budgets
        )
        return cls._wrap(core, vocab)

    @classmethod
    def after(
        cls,
        trigger: str | int | Sequence[int],
        then: GrammarMask,
        *,
        max_states: int = 100_000,
        max_bytes: int = 64 << 20,
        max_ms: int = 2_000,
        mask_bytes: int = 64 << 20,
    ) -> Self:
        """Make the grammar of free text up to the first `trigger`, and then `then`.

        It is one language, so a trigger in the middle of a draft or of a token switches as well.

        Parameters
        ----------
        trigger : str, int or sequence of int
            A text, for example ``"</think>"``, however tokens cut it; or the id of a special token,
            or several of which any will do.
        then : GrammarMask
            What follows, of any kind: a JSON Schema, rules, a pattern.
        max_states, max_bytes, max_ms, mask_bytes : int, optional
            As in `regex`.

        Returns
        -------
        GrammarMask

        Raises
        ------
        InputError
            An empty trigger, or a token that is not special or ends the text.
        UnsupportedPattern
            `then` has position predicates.

        Examples
        --------
        >>> from trivium import Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> g = GrammarMask.after("</think>", GrammarMask.json_schema({"type": "integer"}, vocab))
        >>> g.matches("Six times seven.</think>42"), g.matches("42")
        (True, False)
        """
        budgets = _budgets(max_states, max_bytes, max_ms, mask_bytes)
        return cls._wrap(core_after(_trigger(trigger), then._core, budgets), then._vocab)

    @classmethod
    def free_text_with(
        cls,
        islands: Mapping[str, GrammarMask] | Mapping[int, GrammarMask],
        *,
        stop: str | None = None,
        max_states: int = 100_000,
        max_bytes: int = 64 << 20,
        max_ms: int = 2_000,
        mask_bytes: int = 64 << 20,
    ) -> Self:
        """Make the grammar of free text in which each trigger is followed by its grammar.

        Parameters
        ----------
        islands : dict of str or int to GrammarMask
            Triggers (texts or ids of special tokens) and what follows them: grammars of any kind
            over one vocabulary.
        stop : str, optional
            The text ends with this, outside of islands; by default anywhere outside of one.
        max_states, max_bytes, max_ms, mask_bytes : int, optional
            As in `regex`.

        Returns
        -------
        GrammarMask

        Raises
        ------
        InputError
            No island, an empty trigger, or a token that is not special or ends the text.
        UnsupportedPattern
            A grammar has position predicates, or JSON is spelled in different ways.

        Examples
        --------
        >>> from trivium import Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> number = GrammarMask.regex("[0-9]+>", vocab)
        >>> g = GrammarMask.free_text_with({"<n:": number})
        >>> g.matches("a <n:12> b <n:3>"), g.matches("a <n:x> b")
        (True, False)
        """
        pairs = [(_trigger(t), g._core) for t, g in islands.items()]
        if not pairs:
            raise InputError("islands: none")
        _bytes("stop", stop or "")
        budgets = _budgets(max_states, max_bytes, max_ms, mask_bytes)
        vocab = next(iter(islands.values()))._vocab
        return cls._wrap(core_islands(pairs, stop, budgets), vocab)

    @classmethod
    def spans(
        cls,
        source: str,
        vocab: Vocabulary,
        *,
        words: bool = False,
        max_words: int | None = None,
        max_states: int = 100_000,
        max_bytes: int = 64 << 20,
        max_ms: int = 2_000,
        mask_bytes: int = 64 << 20,
    ) -> Self:
        """Make the grammar of the pieces of a source text (extractive answers).

        Parameters
        ----------
        source : str
            Of up to about 200,000 characters under the default budget.
        vocab : Vocabulary
            Whose tokens are masked.
        words : bool, optional
            Whether a piece begins and ends only where words do.
        max_words : int, optional
            Most words of a piece.
        max_states, max_bytes, max_ms, mask_bytes : int, optional
            As in `regex`.

        Returns
        -------
        GrammarMask

        Raises
        ------
        UnsatisfiableError
            `source` is empty.
        LimitExceeded
            A budget.

        Examples
        --------
        >>> from trivium import Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> g = GrammarMask.spans("the cat sat", vocab, words=True, max_words=2)
        >>> g.matches("cat sat"), g.matches("at sat"), g.matches("the cat sat")
        (True, False, False)
        """
        _bytes("source", source)
        most = None if max_words is None else min(_count("max_words", max_words, 1), 1 << 30)
        budgets = _budgets(max_states, max_bytes, max_ms, mask_bytes)
        core = core_spans(str(source), bool(words), most, _core_vocab(vocab), budgets)
        return cls._wrap(core, vocab)

    def _with(self, how: str, *others: object) -> Self:
        parts = [self._core]
        for other in others:
            if not isinstance(other, GrammarMask):
                raise InputError(f"{how}: {type(other).__name__} is not a GrammarMask")
            parts.append(other._core)
        default = _budgets(100_000, 64 << 20, 2_000, 64 << 20)
        return self._wrap(core_combine(how, parts, default), self._vocab)

    def __and__(self, other: GrammarMask) -> Self:
        """Make the grammar of the texts of both. Regular grammars, default budgets."""
        return self._with("and", other) if isinstance(other, GrammarMask) else NotImplemented

    def __or__(self, other: GrammarMask) -> Self:
        """Make the grammar of the texts of either. Default budgets.

        Any kinds: where one is not regular the other may have no position predicates, and all
        JSON has one ``whitespace`` and one ``escapes``.
        """
        return self._with("or", other) if isinstance(other, GrammarMask) else NotImplemented

    def __invert__(self) -> Self:
        """Make the grammar of every text but these. A regular grammar, default budgets."""
        return self._with("not")

    def __sub__(self, other: GrammarMask) -> Self:
        """Make the grammar of the texts of this one that the other lacks. Default budgets."""
        return self & ~other if isinstance(other, GrammarMask) else NotImplemented

    def then(self, *others: GrammarMask) -> Self:
        """Follow a text of this grammar by one of each of the others.

        Parameters
        ----------
        *others : GrammarMask
            Grammars of any kind over the same vocabulary.

        Returns
        -------
        GrammarMask

        Raises
        ------
        UnsupportedPattern
            A grammar has position predicates that would see across a seam, or JSON is spelled in
            different ways.

        Examples
        --------
        >>> from trivium import Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> word = GrammarMask.regex("[a-z]+", vocab) - GrammarMask.choices(["if"], vocab)
        >>> g = word.then(GrammarMask.regex("=[0-9]", vocab))
        >>> g.matches("iff=1"), g.matches("if=1")
        (True, False)
        """
        return self._with("then", *others)

    @property
    def vocab(self) -> Vocabulary:
        """The vocabulary."""
        return self._vocab

    def matcher(self) -> Matcher:
        """Make a matcher at the empty text.

        Returns
        -------
        Matcher
        """
        return Matcher._wrap(self._core.matcher())

    def matches(self, text: str | bytes) -> bool:
        """Say whether a whole text is in the language.

        Parameters
        ----------
        text : str or bytes

        Returns
        -------
        bool
        """
        return self._core.matches(_bytes("text", text))

    def explain(self, prefix: str | bytes) -> Explanation:
        """Say how far a text gets and what may follow.

        Parameters
        ----------
        prefix : str or bytes

        Returns
        -------
        Explanation

        Examples
        --------
        >>> from trivium import Vocabulary
        >>> vocab = Vocabulary([b"a", b"b", b""], eos=[2])
        >>> GrammarMask.regex("a+b", vocab).explain("aac")
        Explanation(accepted=2, viable=False, accepting=False, next_bytes=[(97, 98)])
        """
        raw = _bytes("prefix", prefix)
        accepted, accepting, next_bytes = self._core.explain(raw)
        return Explanation(accepted, accepted == len(raw), accepting, next_bytes)

    def completion(self, prefix: str | bytes = b"") -> bytes | None:
        """Find a shortest text of the language that begins with `prefix`.

        Parameters
        ----------
        prefix : str or bytes, optional

        Returns
        -------
        bytes or None
            None if no text begins so, or all that do hold special tokens.
        """
        return self._core.completion(_bytes("prefix", prefix))

    def report(self) -> GrammarReport:
        """Report guarantees and sizes.

        Returns
        -------
        GrammarReport
        """
        return GrammarReport(**self._core.report())

    def __repr__(self) -> str:
        report = self.report()
        return f"GrammarMask({report.kind}, {report.states} states, {report.masks} masks)"


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
            return self._core.commit_one(_id(tokens))
        try:
            one = operator.index(tokens)
        except TypeError:
            return self._core.commit_many(_ids(tokens))
        return self._core.commit_one(_id(one))

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
        number = _count("n", n, 0)
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
        return self._core.sync(_ids(tokens))

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
        return self._core.allows(_id(token))

    def validate(self, tokens: Sequence[int] | NDArray[Any]) -> int:
        """Say how many of `tokens` could be committed, without committing them.

        Parameters
        ----------
        tokens : int array, shape (n,)

        Returns
        -------
        int
        """
        return self._core.validate(_ids(tokens))

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
        return self._core.fill_tree(_ids(parents), _ids(tokens), out)

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


def fill_batch(
    matchers: Sequence[Matcher],
    out: Any,
    rows: Sequence[int] | NDArray[Any] | None = None,
    threads: int | None = None,
) -> None:
    """Write the masks of many sequences in one call, without holding the interpreter.

    Parameters
    ----------
    matchers : sequence of Matcher, length n
        They may be of different grammars.
    out : int32 array, shape (>= n, words), C-contiguous, on the CPU
        Row ``rows[i]`` is the mask of matcher ``i``; rows that are not named stay as they are.
    rows : int array, shape (n,), optional
        Default: ``0 .. n-1``.
    threads : int, optional
        Default: one, unless many masks have to be computed.

    Raises
    ------
    InputError
        Shapes, dtype, device, a row named twice or outside.
    StateError
        A matcher is in use by another thread.
    LimitExceeded
        A budget of a grammar.

    Examples
    --------
    >>> import numpy as np
    >>> from trivium import Vocabulary
    >>> vocab = Vocabulary([b"a", b"b", b"ab", b""], eos=[3])
    >>> g = GrammarMask.regex("a*b", vocab)
    >>> out = np.zeros((2, 1), np.int32)
    >>> a, b = g.matcher(), g.matcher()
    >>> b.commit(1)
    True
    >>> fill_batch([a, b], out)
    >>> out.tolist()
    [[7], [8]]
    """
    cores = []
    for i, matcher in enumerate(matchers):
        core = getattr(matcher, "_core", None)
        if not isinstance(core, CoreMatcher):
            raise InputError(f"matchers: entry {i} is {type(matcher).__name__}, not a Matcher")
        cores.append(core)
    count = None if threads is None else min(_count("threads", threads, 1), 256)
    core_fill_batch(cores, out, None if rows is None else _ids(rows), count)


def _id(token: int) -> int:
    try:
        number = operator.index(token)
    except TypeError:
        raise InputError(f"token: {token!r} is not an integer") from None
    # Beyond 64 bits is as far outside as -1.
    return number if -(1 << 63) <= number < 1 << 63 else -1


def _ids(tokens: Any) -> Any:
    return list(tokens) if isinstance(tokens, tuple | range) else tokens
