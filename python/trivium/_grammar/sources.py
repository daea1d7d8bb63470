"""Grammars from patterns, rules, texts and schemas."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from trivium._core import GrammarMask as CoreGrammarMask
from trivium._grammar.arguments import (
    Budgets,
    budgets_of,
    core_vocab,
    count,
    json_text,
    raw_bytes,
    whitespace_of,
)
from trivium._grammar.compiled import Compiled
from trivium._grammar.shadow import shadowed
from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from trivium.vocabulary import Vocabulary

__all__ = ["Dialect", "Sources"]


# References into the document itself.
_INSIDE = re.compile(r'"\$(?:dynamic|recursive)?[rR]ef"\s*:\s*"#[^"]*"')

Dialect = Literal["rust", "ecma", "python"]


class Sources(Compiled):
    """The constructors of `trivium.GrammarMask` that read a text."""

    __slots__ = ()

    @classmethod
    def regex(
        cls,
        pattern: str,
        vocab: Vocabulary,
        *,
        dialect: Dialect = "rust",
        full: bool = True,
        **budgets: Unpack[Budgets],
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
        **budgets
            Every front end takes these.

            max_states : int
                Budget of automaton states, during generation too, default 100,000, at most 2**24.
            max_bytes : int
                Budget of the automaton's bytes, during generation too; default 64 MB.
            max_ms : int
                Budget of this call in milliseconds; default 2,000 (grammars 5,000).
            mask_bytes : int
                Bytes of masks kept for states met before; beyond it the least recent go; default
                64 MB.
            cancel : Cancel
                A flag that ends this call from another thread.

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
        Cancelled
            The flag was set.

        Examples
        --------
        >>> from trivium import GrammarMask, Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> g = GrammarMask.regex(r"\d{4}-\d\d", vocab)
        >>> g.matches("2024-05"), g.matches("2024-5")
        (True, False)
        """
        if not isinstance(pattern, str):
            raise InputError(f"pattern: {type(pattern).__name__} is not str")
        raw_bytes("pattern", pattern)
        limits = budgets_of(budgets)
        core = CoreGrammarMask.regex(pattern, core_vocab(vocab), dialect, bool(full), limits)
        return cls._wrap(core, vocab)

    @classmethod
    def grammar(
        cls,
        text: str,
        vocab: Vocabulary,
        *,
        syntax: Literal["ebnf", "gbnf", "lark"] = "ebnf",
        start: str | None = None,
        **budgets: Unpack[Budgets],
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
        **budgets
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
        >>> from trivium import GrammarMask, Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> rules = '''root ::= root "+" term | term
        ... term ::= [0-9]+ | "(" root ")"'''
        >>> g = GrammarMask.grammar(rules, vocab)
        >>> g.matches("1+(2+34)"), g.matches("1+")
        (True, False)
        """
        if not isinstance(text, str):
            raise InputError(f"text: {type(text).__name__} is not str")
        raw_bytes("text", text)
        limits = budgets_of(budgets, max_ms=5_000)
        core = CoreGrammarMask.grammar(text, core_vocab(vocab), syntax, start, limits)
        return cls._wrap(core, vocab)

    @classmethod
    def choices(
        cls,
        texts: Iterable[str],
        vocab: Vocabulary,
        **budgets: Unpack[Budgets],
    ) -> Self:
        """Make the grammar of exactly the given texts.

        Parameters
        ----------
        texts : iterable of str
            The texts, in any order.
        vocab : Vocabulary
            Whose tokens are masked.
        **budgets
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
        >>> from trivium import GrammarMask, Vocabulary
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
            raw_bytes("texts", text)
        limits = budgets_of(budgets)
        return cls._wrap(CoreGrammarMask.choices(texts, core_vocab(vocab), limits), vocab)

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
        on_unsupported: Literal["error", "shadow", "relax"] = "error",
        remotes: Mapping[str, str | bool | Mapping[str, Any]] | None = None,
        max_cells: int = 20_000,
        **budgets: Unpack[Budgets],
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
        on_unsupported : {"error", "shadow", "relax"}, optional
            What happens to a keyword that is not compiled. ``"shadow"``: the whole value is
            validated where a token would complete it, and that token refused, so nothing invalid
            ends; a value may be begun that nothing completes, `report` names the keyword, and a
            matcher without any token left raises `DeadEnd`. ``"relax"``: it is dropped, and
            `report` lists it.
        remotes : dict, optional
            Other documents by address. Nothing is ever fetched.
        max_cells : int, optional
            Budget of the alternatives that one combination of schemas multiplies out to.
        **budgets
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
        >>> from trivium import GrammarMask, Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> g = GrammarMask.json_schema(
        ...     {"properties": {"n": {"minimum": 3}}, "required": ["n"], "maxProperties": 1}, vocab
        ... )
        >>> g.matches('{"n": 12}'), g.matches('{"n": 2}'), g.matches('[{"n": 2}]')
        (True, False, True)
        """
        text = json_text("schema", schema)
        # A schema that points nowhere else needs none of the other documents but its dialect.
        outside = "\\u" in text or len(_INSIDE.findall(text)) < text.lower().count('ref"')
        options: dict[str, Any] = {
            "order": order,
            "additional": additional,
            "whitespace": whitespace_of(whitespace),
            "escapes": escapes,
            "numbers": numbers,
            "formats": formats if isinstance(formats, str) else [str(f) for f in formats],
            "on_unsupported": on_unsupported,
            "remotes": {
                str(k): json_text(f"remotes[{k!r}]", v)
                for k, v in (remotes or {}).items()
                if outside or k in text
            },
            "digits": None if digits is None else count("digits", digits, 1),
            "max_cells": count("max_cells", max_cells, 1),
        }
        for key in ("order", "additional", "escapes", "numbers", "on_unsupported"):
            if not isinstance(options[key], str):
                raise InputError(f"{key}: {type(options[key]).__name__} is not str")
        limits, of_vocab = budgets_of(budgets), core_vocab(vocab)
        if options["on_unsupported"] != "shadow":
            core = CoreGrammarMask.json_schema(text, of_vocab, options, limits)
            return cls._wrap(core, vocab)
        options["on_unsupported"] = "error"
        core = shadowed(
            text, lambda t: CoreGrammarMask.json_schema(t, of_vocab, options, limits), options
        )
        return cls._wrap(core, vocab)
