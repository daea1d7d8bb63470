"""Draft sources with settings, for ``Speculator(sources=[...])``.

A source is a name, ``"prompt_lookup"``, or one of these objects, ``PromptLookup(max_ngram=3)``. Its
text form, ``"prompt_lookup:max_ngram=3"``, is what configurations and files hold. All of them draft
by look-up, so every verifier keeps the target's law; none can change the text under the default
one.

======================  ==========================================================================
`PromptLookup`          transformers' prompt lookup and the original
`Ngram`                 vLLM's n-gram method
`NgramCache`            llama.cpp's context, dynamic and static caches
`Lookahead`             phrases seen after the last token
`Ouroboros`             phrases seen after any drafted token
`Jacobi`                the target's own answers on rejected drafts
`FastCoT`               the same in a window that shrinks
======================  ==========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    import os

__all__ = [
    "FastCoT",
    "Jacobi",
    "Lookahead",
    "Ngram",
    "NgramCache",
    "Ouroboros",
    "PromptLookup",
    "Source",
]

_ESCAPES = str.maketrans({"%": "%25", ";": "%3B", ",": "%2C", "=": "%3D"})


@dataclass(frozen=True)
class Source:
    """A draft source and its settings; settings that are None keep their default."""

    name: ClassVar[str] = ""

    def __str__(self) -> str:
        """Text form: ``name:key=value;key=value``."""
        settings = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value != field.default:
                text = ("no", "yes")[value] if isinstance(value, bool) else str(value)
                settings.append(f"{field.name}={text.translate(_ESCAPES)}")
        return ":".join(filter(None, [self.name, ";".join(settings)]))


_Match = Literal["earliest", "latest", "most_frequent"]


@dataclass(frozen=True)
class PromptLookup(Source):
    """Continue as the last few tokens continued earlier in the same text (Saxena 2023).

    Attributes
    ----------
    max_ngram, min_ngram : int
        Lengths of match, longest first. Defaults are those of transformers (2, 1), with `full` of
        the original (3, 1).
    num_tokens : int
        Length of the draft.
    match : "earliest", "latest" or "most_frequent"
        Which occurrence; both references take the earliest.
    full : bool
        Only matches that the whole draft follows, as in the original.
    """

    name: ClassVar[str] = "prompt_lookup"
    max_ngram: int | None = None
    min_ngram: int = 1
    num_tokens: int = 10
    match: _Match = "earliest"
    full: bool = False


@dataclass(frozen=True)
class Ngram(Source):
    """The n-gram method of vLLM: the longest match within bounds, the earliest of equal ones.

    Attributes
    ----------
    min_ngram, max_ngram : int
        Bounds of the match.
    num_tokens : int
        Length of the draft.
    match : "earliest", "latest" or "most_frequent"
        Which occurrence; vLLM takes the earliest.
    """

    name: ClassVar[str] = "ngram"
    min_ngram: int = 2
    max_ngram: int = 5
    num_tokens: int = 5
    match: _Match = "earliest"


@dataclass(frozen=True)
class NgramCache(Source):
    """The lookup of llama.cpp: count tables of this text, of finished texts and of a corpus.

    Attributes
    ----------
    num_tokens : int
        Length of the draft.
    min_ngram : int
        Shortest history, at most 4.
    corpus : path, optional
        Documents of `Corpus.write`; the static table.
    """

    name: ClassVar[str] = "ngram_cache"
    num_tokens: int = 16
    min_ngram: int = 1
    corpus: str | os.PathLike[str] | None = None


@dataclass(frozen=True)
class Lookahead(Source):
    """The phrase pool of lookahead decoding, without its window.

    Attributes
    ----------
    ngram : int
        Length of a phrase and its key, N.
    guesses : int
        Phrases a key keeps, G.
    text, rejected : bool
        Whether the request's own text, and the target's answers on rejected drafts, are phrases.
    """

    name: ClassVar[str] = "lookahead"
    ngram: int = 5
    guesses: int = 7
    text: bool = True
    rejected: bool = True


@dataclass(frozen=True)
class Ouroboros(Source):
    """A phrase pool that continues every drafted token and is shared within a tenant.

    Attributes
    ----------
    ngram : int
        Length of a phrase and its key.
    guesses : int
        Phrases a key keeps.
    text, rejected : bool
        As in `Lookahead`.
    """

    name: ClassVar[str] = "ouroboros"
    ngram: int = 7
    guesses: int = 3
    text: bool = True
    rejected: bool = True


_Init = Literal["ngram", "repeat", "none"]


@dataclass(frozen=True)
class Jacobi(Source):
    """Jacobi iteration: the target's answers at rejected drafts are the next drafts.

    Attributes
    ----------
    window : int
        Positions guessed at once.
    mode : "sliding" or "block"
        Always `window` positions, or Gauss-Seidel over blocks of them.
    init : "ngram", "repeat" or "none"
        What stands where there is no answer yet.
    """

    name: ClassVar[str] = "jacobi"
    window: int = 8
    mode: Literal["sliding", "block"] = "sliding"
    init: _Init = "ngram"


@dataclass(frozen=True)
class FastCoT(Source):
    """Jacobi iteration in a window that goes from `window` to `final` over `over` new tokens."""

    name: ClassVar[str] = "fastcot"
    window: int = 8
    final: int = 4
    over: int = 64
    init: _Init = "ngram"
