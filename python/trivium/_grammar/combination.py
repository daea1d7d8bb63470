"""Grammars from grammars: ``& | ~ -``, sequences, triggers; phrases and spans, which combine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self, Unpack

from trivium._core import after_trigger as core_after
from trivium._core import combine_grammars as core_combine
from trivium._core import island_grammar as core_islands
from trivium._core import phrase_grammar as core_phrases
from trivium._core import span_grammar as core_spans
from trivium._grammar.arguments import Budgets, budgets_of, core_vocab, count, raw_bytes, trigger_of
from trivium._grammar.compiled import Compiled
from trivium._grammar.phrases import Phrases
from trivium.errors import InputError, UnsupportedPattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trivium.vocabulary import Vocabulary

__all__ = ["Combinations"]


class Combinations(Compiled):
    """The operators of `trivium.GrammarMask`, and its constructors that combine."""

    __slots__ = ()

    @classmethod
    def phrases(
        cls,
        vocab: Vocabulary,
        *,
        must: Iterable[str | Iterable[str]] = (),
        never: Iterable[str] = (),
        ignore_case: bool = False,
        whole_words: bool = False,
        **budgets: Unpack[Budgets],
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
        **budgets
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
        >>> from trivium import GrammarMask, Vocabulary
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
            raw_bytes("phrases", text)
        limits = budgets_of(budgets)
        core = core_phrases(
            groups, none, bool(ignore_case), bool(whole_words), core_vocab(vocab), limits
        )
        self = cls._wrap(core, vocab)
        self._phrases = Phrases(
            groups, vocab, ignore_case=bool(ignore_case), whole_words=bool(whole_words)
        )
        return self

    @classmethod
    def after(
        cls,
        trigger: str | int | Sequence[int],
        then: Compiled,
        **budgets: Unpack[Budgets],
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
        **budgets
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
        >>> from trivium import GrammarMask, Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> g = GrammarMask.after("</think>", GrammarMask.json_schema({"type": "integer"}, vocab))
        >>> g.matches("Six times seven.</think>42"), g.matches("42")
        (True, False)
        """
        limits = budgets_of(budgets)
        return cls._wrap(core_after(trigger_of(trigger), then._core, limits), then._vocab)

    @classmethod
    def free_text_with(
        cls,
        islands: Mapping[str, Compiled] | Mapping[int, Compiled],
        *,
        stop: str | None = None,
        **budgets: Unpack[Budgets],
    ) -> Self:
        """Make the grammar of free text in which each trigger is followed by its grammar.

        Parameters
        ----------
        islands : dict of str or int to GrammarMask
            Triggers (texts or ids of special tokens) and what follows them: grammars of any kind
            over one vocabulary.
        stop : str, optional
            The text ends with this, outside of islands; by default anywhere outside of one.
        **budgets
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
        >>> from trivium import GrammarMask, Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> number = GrammarMask.regex("[0-9]+>", vocab)
        >>> g = GrammarMask.free_text_with({"<n:": number})
        >>> g.matches("a <n:12> b <n:3>"), g.matches("a <n:x> b")
        (True, False)
        """
        pairs = [(trigger_of(t), g._core) for t, g in islands.items()]
        if not pairs:
            raise InputError("islands: none")
        raw_bytes("stop", stop or "")
        limits = budgets_of(budgets)
        vocab = next(iter(islands.values()))._vocab
        return cls._wrap(core_islands(pairs, stop, limits), vocab)

    @classmethod
    def spans(
        cls,
        source: str,
        vocab: Vocabulary,
        *,
        words: bool = False,
        max_words: int | None = None,
        **budgets: Unpack[Budgets],
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
        **budgets
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
        >>> from trivium import GrammarMask, Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> g = GrammarMask.spans("the cat sat", vocab, words=True, max_words=2)
        >>> g.matches("cat sat"), g.matches("at sat"), g.matches("the cat sat")
        (True, False, False)
        """
        raw_bytes("source", source)
        most = None if max_words is None else min(count("max_words", max_words, 1), 1 << 30)
        limits = budgets_of(budgets)
        core = core_spans(str(source), bool(words), most, core_vocab(vocab), limits)
        return cls._wrap(core, vocab)

    def _with(self, how: str, *others: object) -> Self:
        parts = [self._core]
        for other in others:
            if not isinstance(other, Compiled):
                raise InputError(f"{how}: {type(other).__name__} is not a GrammarMask")
            parts.append(other._core)
        default = budgets_of({})
        return self._wrap(core_combine(how, parts, default), self._vocab)

    def intersect(
        self, other: Combinations, *, on_unsupported: Literal["error", "shadow"] = "error"
    ) -> Self:
        """Make the grammar of the texts of both.

        Parameters
        ----------
        other : GrammarMask
            Over the same vocabulary.
        on_unsupported : {"error", "shadow"}, optional
            What to do where a side is not regular: whether two context-free languages share a text
            cannot be decided. ``"error"`` (as ``&``) refuses; ``"shadow"`` masks by both sides,
            exactly, and `report` says that dead ends are not ruled out; at one `Matcher.fill`
            returns False.

        Returns
        -------
        GrammarMask

        Raises
        ------
        UnsupportedPattern
            A side is not regular and the mode is ``"error"``, or a side has a checker.

        Examples
        --------
        >>> from trivium import GrammarMask, Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> nested = GrammarMask.grammar('root ::= "(" root ")" | ""', vocab)
        >>> short = GrammarMask.regex(".{0,4}", vocab)
        >>> g = nested.intersect(short, on_unsupported="shadow")
        >>> g.matches("(())"), g.matches("((()))"), g.report().no_dead_end
        (True, False, False)
        """
        if on_unsupported not in ("error", "shadow"):
            raise InputError(f'on_unsupported: {on_unsupported!r} is not "error" or "shadow"')
        if on_unsupported == "error":
            return self._with("and", other)
        try:
            return self._with("and", other)
        except UnsupportedPattern:
            return self._with("both", other)

    def __and__(self, other: Combinations) -> Self:
        """Make the grammar of the texts of both. Regular grammars, default budgets.

        `intersect` takes others.
        """
        return self._with("and", other) if isinstance(other, Combinations) else NotImplemented

    def __or__(self, other: Combinations) -> Self:
        """Make the grammar of the texts of either. Default budgets.

        Any kinds: where one is not regular the other may have no position predicates, and all
        JSON has one ``whitespace`` and one ``escapes``.
        """
        return self._with("or", other) if isinstance(other, Combinations) else NotImplemented

    def __invert__(self) -> Self:
        """Make the grammar of every text but these. A regular grammar, default budgets."""
        return self._with("not")

    def __sub__(self, other: Combinations) -> Self:
        """Make the grammar of the texts of this one that the other lacks. Default budgets."""
        return self & ~other if isinstance(other, Combinations) else NotImplemented

    def then(self, *others: Compiled) -> Self:
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
        >>> from trivium import GrammarMask, Vocabulary
        >>> vocab = Vocabulary([bytes([b]) for b in range(256)] + [b""], eos=[256])
        >>> word = GrammarMask.regex("[a-z]+", vocab) - GrammarMask.choices(["if"], vocab)
        >>> g = word.then(GrammarMask.regex("=[0-9]", vocab))
        >>> g.matches("iff=1"), g.matches("if=1")
        (True, False)
        """
        return self._with("then", *others)
