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
`WindowTrie`            SGLang's trie of recent windows
`Aded`                  ADED's tri-gram table
`Siblings`              what other samples of the same prompt wrote
`Rest`                  REST: a corpus on disk, written by `build_corpus`
======================  ==========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from trivium import _core

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

__all__ = [
    "Aded",
    "FastCoT",
    "Jacobi",
    "Lookahead",
    "Ngram",
    "NgramCache",
    "Ouroboros",
    "PromptLookup",
    "Rest",
    "Siblings",
    "Source",
    "WindowTrie",
    "build_corpus",
    "names",
]


def names() -> list[str]:
    """Names of the sources that need no settings; ``rest`` needs the file of its corpus."""
    own = [source.name for source in Source.__subclasses__() if source is not Rest]
    return ["suffix", "recycle", *own]


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
        A file of `build_corpus`: the static table.
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


@dataclass(frozen=True)
class WindowTrie(Source):
    """SGLang's n-gram trie: substrings of this text and of finished ones, by recency or count.

    Attributes
    ----------
    max_depth : int
        Longest substring.
    min_match, max_match : int
        Lengths of match that anchor the draft, below `max_depth`.
    min_breadth, max_breadth : int
        Children a node at the longest and at the shortest match.
    num_tokens : int
        Nodes of the draft.
    order : "recency" or "frequency"
        The builder.
    """

    name: ClassVar[str] = "trie"
    max_depth: int = 18
    min_match: int = 1
    max_match: int = 12
    min_breadth: int = 1
    max_breadth: int = 10
    num_tokens: int = 12
    order: Literal["recency", "frequency"] = "recency"


@dataclass(frozen=True)
class Aded(Source):
    """A tri-gram table, nudged towards the text, and the tree worth verifying under it.

    Attributes
    ----------
    num_tokens : int
        Nodes of the draft.
    iterations : int
        Iterations of ``search="mcts"``.
    search : "heap" or "mcts"
        The heaviest paths exactly, or the paper's Monte-Carlo tree search.
    corpus : path, optional
        A file of `build_corpus`; without one the table starts empty.
    """

    name: ClassVar[str] = "aded"
    num_tokens: int = 64
    iterations: int = 150
    search: Literal["heap", "mcts"] = "heap"
    corpus: str | os.PathLike[str] | None = None


@dataclass(frozen=True)
class Siblings(Source):
    """Consensus of the samples of one group, while they run.

    Attributes
    ----------
    min_ngram : int
        Shortest match, at most 6.
    num_tokens : int
        Longest continuation.
    choices : int
        Nodes of the draft.
    """

    name: ClassVar[str] = "siblings"
    min_ngram: int = 2
    num_tokens: int = 10
    choices: int = 32


@dataclass(frozen=True)
class Rest(Source):
    """REST: the most frequent continuations of the longest match in a corpus.

    Attributes
    ----------
    corpus : path
        A file of `build_corpus`.
    max_ngram, min_ngram : int
        Lengths of match, longest first.
    choices : int
        Nodes of the draft.
    num_tokens : int
        Longest continuation.
    store : "auto", "disk" or "memory"
        Where the corpus is searched; ``"auto"`` loads it if it takes at most the speculator's
        `max_bytes`.
    """

    name: ClassVar[str] = "rest"
    corpus: str | os.PathLike[str] = ""
    max_ngram: int = 16
    min_ngram: int = 2
    choices: int = 64
    num_tokens: int = 10
    store: Literal["auto", "disk", "memory"] = "auto"


def build_corpus(path: str | os.PathLike[str], documents: Iterable[Any], vocab_size: int) -> None:
    """Write documents and their suffix array to a file, for `Rest`, `NgramCache` and `Aded`.

    The file is ``trivium-corpus-1``: safetensors with U32 tensors ``tokens``, ``starts`` and
    ``suffixes``. Building takes O(n log^2 n).

    Parameters
    ----------
    path : path
        The file to write.
    documents : iterable of int array
        Token ids of each document; no draft crosses from one to the next.
    vocab_size : int
        Width of the target's logits; a speculator of another width refuses the file.

    Raises
    ------
    TokenError
        An id outside the vocabulary.
    InputError
        The file cannot be written.
    """
    _core.build_corpus(path, list(documents), vocab_size)
