"""`check_mask`: whether a mask allows exactly the tokens that can lead into the language."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InputError
from trivium.testing.results import CheckResult, Counterexample
from trivium.testing.shrink import shrink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["MaskProblem", "allowed_tokens", "check_mask", "mask_problems"]

_PREFIX = 4  # prefixes shorter than this are explored
_REACH = _PREFIX - 1 + 4  # bytes of the longest prefix and token together
_HORIZON = 4  # bytes that a completion may need: the states of the largest pattern


@dataclass(frozen=True)
class MaskProblem:
    """A language, a vocabulary and a prefix.

    Attributes
    ----------
    pattern : str
        Regular expression of the language, matched whole; common syntax only.
    vocabulary : tuple of bytes
        Bytes of every token; ``eos`` has some too, which do not count.
    eos : int
        End token: allowed exactly where the text so far is a member.
    prefix : tuple of int
        Tokens before the mask.
    alphabet : bytes
        Bytes of which texts are made.
    """

    pattern: str
    vocabulary: tuple[bytes, ...]
    eos: int
    prefix: tuple[int, ...] = ()
    alphabet: bytes = b"ab"

    @property
    def text(self) -> bytes:
        """Bytes of the prefix."""
        return b"".join(self.vocabulary[t] for t in self.prefix)

    def describe(self) -> dict[str, Any]:
        """Return the problem as plain data for a report."""
        return {
            "pattern": self.pattern,
            "vocabulary": {i: t for i, t in enumerate(self.vocabulary) if i != self.eos},
            "eos": self.eos,
            "prefix": f"{list(self.prefix)} = {self.text!r}",
        }

    def simpler(self) -> Iterator[MaskProblem]:
        """Yield simpler problems, boldest first."""
        if self.prefix:
            yield replace(self, prefix=())
            yield replace(self, prefix=self.prefix[:-1])
        for token in reversed(range(len(self.vocabulary))):
            if token != self.eos and token not in self.prefix and len(self.vocabulary) > 2:
                words = self.vocabulary[:token] + self.vocabulary[token + 1 :]
                prefix = tuple(t - (t > token) for t in self.prefix)
                eos = self.eos - (self.eos > token)
                yield replace(self, vocabulary=words, prefix=prefix, eos=eos)
        for start in range(len(self.pattern)):
            for end in range(len(self.pattern), start, -1):
                shorter = self.pattern[:start] + self.pattern[end:]
                if _compiles(shorter):
                    yield replace(self, pattern=shorter)


def _compiles(pattern: str) -> bool:
    if not pattern or pattern[0] in "*+?|)" or "()" in pattern or "(|" in pattern:
        return False
    if (
        "||" in pattern
        or "[[" in pattern
        or "|)" in pattern
        or pattern[-1] == "|"
        or "[]" in pattern
    ):
        return False
    if re.search(r"[*+?][*+?]|\([*+?]|\|[*+?]", pattern):
        return False
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


@lru_cache(maxsize=4096)
def _members(pattern: str, alphabet: bytes) -> tuple[frozenset[bytes], frozenset[bytes]]:
    compiled = re.compile(pattern.encode())
    members = set()
    for length in range(_REACH + _HORIZON + 1):
        for letters in product(alphabet, repeat=length):
            word = bytes(letters)
            if compiled.fullmatch(word):
                members.add(word)
    prefixes = {word[:i] for word in members for i in range(len(word) + 1)}
    return frozenset(members), frozenset(prefixes)


def allowed_tokens(
    problem: MaskProblem, language: Callable[[bytes], bool] | None = None, *, horizon: int = 6
) -> set[int]:
    """Return the allowed tokens by brute force.

    Parameters
    ----------
    problem : MaskProblem
        The prefix must be viable.
    language : callable, optional
        Membership of a text; default the problem's pattern.
    horizon : int, optional
        Longest completion that is tried for a `language`.
    """
    text = problem.text
    out = set()
    if language is None:
        members, prefixes = _members(problem.pattern, problem.alphabet)
        for token, word in enumerate(problem.vocabulary):
            if token == problem.eos:
                allowed = text in members
            else:
                allowed = bool(word) and text + word in prefixes
            if allowed:
                out.add(token)
        return out
    for token, word in enumerate(problem.vocabulary):
        if token == problem.eos:
            viable = language(text)
        else:
            viable = bool(word) and any(
                language(text + word + bytes(rest))
                for length in range(horizon + 1)
                for rest in product(problem.alphabet, repeat=length)
            )
        if viable:
            out.add(token)
    return out


_PATTERNS = (
    "a",
    "ab",
    "a|b",
    "a*",
    "a+b",
    "(ab)*",
    "(a|b)b",
    "a?b?",
    "ab|aa",
    "a(a|b)*b",
    "(ab|b)+",
    "b*a",
    "(aa)*",
    "a|ab",
    "[ab]a",
    "(a|ba)b?",
)
_WORDS = (b"a", b"b", b"ab", b"ba", b"aa", b"bb", b"aab", b"abab", b"c", b"ac")


def _random_pattern(rng: np.random.Generator, leaves: int) -> str:
    if leaves == 1:
        return str(rng.choice(["a", "b", "[ab]"]))
    cut = int(rng.integers(1, leaves))
    left, right = _random_pattern(rng, cut), _random_pattern(rng, leaves - cut)
    kind = int(rng.integers(4))
    if kind == 0:
        return f"({left}|{right})"
    if kind == 1:
        return f"({left}{right})" + str(rng.choice(["*", "+", "?"]))
    if kind == 2:
        return f"({left})" + str(rng.choice(["*", "?"])) + right
    return left + right


def mask_problems(*, quick: bool, seed: int) -> Iterator[MaskProblem]:
    """Yield the problems of a mask check, all viable prefixes up to four bytes of each language."""
    rng = np.random.default_rng(seed)
    patterns = list(_PATTERNS)
    patterns += [_random_pattern(rng, int(rng.integers(2, 5))) for _ in range(10 if quick else 60)]
    for number, pattern in enumerate(dict.fromkeys(patterns)):
        # More than 32 tokens in every fourth vocabulary: packed masks then have a second word.
        words = list(_WORDS[: 5 + number % 6])
        if number % 4 == 3:
            words += [b"c" * (i + 1) for i in range(30)] + [b"b", b"ab"]
        eos = int(rng.integers(len(words) + 1))
        words.insert(eos, b"<eos>")
        start = MaskProblem(pattern, tuple(words), eos)
        todo = [start]
        seen = 0
        while todo and seen < (8 if quick else 16):
            problem = todo.pop(0)
            seen += 1
            yield problem
            for token in sorted(allowed_tokens(problem) - {eos}):
                longer = replace(problem, prefix=(*problem.prefix, token))
                if len(longer.text) < _PREFIX and len(longer.prefix) < 4:
                    todo.append(longer)


def _allowed(mask: Any, size: int) -> set[int]:
    """Read a mask: booleans, packed 32-bit words, or allowed ids."""
    if isinstance(mask, set | frozenset):
        return {int(t) for t in mask}
    row = np.asarray(mask)
    if row.ndim != 1:
        raise InputError(f"the mask has shape {row.shape}; one row is due")
    if row.dtype == np.bool_:
        if len(row) != size:
            raise InputError(f"the mask has {len(row)} entries for {size} tokens")
        return set(np.flatnonzero(row).tolist())
    if row.dtype in (np.int32, np.uint32) and len(row) == (size + 31) // 32:
        bits = np.unpackbits(row.view(np.uint8), bitorder="little")
        return set(np.flatnonzero(bits).tolist())
    return {int(t) for t in row}


def check_mask(
    fn: Callable[..., Any],
    *,
    language: Callable[[bytes], bool] | None = None,
    vocabulary: Sequence[bytes] | None = None,
    eos: int | None = None,
    alphabet: bytes = b"ab",
    max_tokens: int = 3,
    horizon: int = 6,
    quick: bool = False,
    seed: int = 0,
    name: str | None = None,
    shrink_seconds: float = 3.0,
) -> CheckResult:
    """Check that a mask allows exactly the tokens that keep the text in a language.

    Parameters
    ----------
    fn : callable
        ``fn(problem, prefix) -> mask``: `problem` is a `MaskProblem` with ``pattern``,
        ``vocabulary`` and ``eos``, `prefix` a tuple of token ids. With `language` it is
        ``fn(prefix)``. The mask is a bool array, packed int32 words (bit ``i % 32`` of word
        ``i // 32``), or allowed ids: a set, or an int64 array.
    language : callable, optional
        ``language(text) -> bool``: your language, where `fn` has one of its own.
    vocabulary : sequence of bytes, optional
        Tokens that go with `language`.
    eos : int, optional
        End token that goes with `language`; allowed exactly after members.
    alphabet : bytes, optional
        Bytes of which completions in `language` are made.
    max_tokens : int, optional
        Longest prefix tried in `language`.
    horizon : int, optional
        Longest completion tried in `language`, in bytes.
    quick : bool, optional
        Fewer languages and prefixes.
    seed : int, optional
        Seed of the languages.
    name : str, optional
        Name in the report.
    shrink_seconds : float, optional
        Time for making a counterexample smaller.

    Returns
    -------
    CheckResult
        `worst_tv` is the largest share of tokens masked wrongly.

    Examples
    --------
    >>> from trivium.testing import check_mask
    >>> from trivium.testing.masks import allowed_tokens
    >>> check_mask(lambda problem, prefix: allowed_tokens(problem), name="brute force").ok
    True
    """
    began = time.perf_counter()
    if language is None:
        todo: list[MaskProblem] = list(mask_problems(quick=quick, seed=seed))
    else:
        if vocabulary is None or eos is None or not 0 <= eos < len(vocabulary):
            raise InputError("language: vocabulary and eos, one of its ids, must come with it")
        first = MaskProblem("(your language)", tuple(vocabulary), eos, (), alphabet)
        todo = _walk(first, language, max_tokens, horizon)

    def find(problem: MaskProblem) -> tuple[float, Counterexample | None]:
        want = allowed_tokens(problem, language, horizon=horizon)
        size = len(problem.vocabulary)
        try:
            out = fn(problem, problem.prefix) if language is None else fn(problem.prefix)
            got = _allowed(out, size)
        except Exception as error:
            why = f"raised {type(error).__name__}: {error}"
            return 1.0, Counterexample(problem.describe(), why)
        wrong = want ^ got
        if not wrong:
            return 0.0, None

        def names(tokens: set[int]) -> str:
            inside = [t for t in sorted(tokens) if t < size]
            texts = ["end" if t == problem.eos else repr(problem.vocabulary[t]) for t in inside]
            return ", ".join(texts + [str(t) for t in sorted(tokens) if t >= size])

        parts = []
        if got - want:
            parts.append(f"allows {names(got - want)}, from which no member can be reached")
        if want - got:
            parts.append(f"forbids {names(want - got)}, which a member goes on with")
        table = dict.fromkeys(want, 1.0), dict.fromkeys(got, 1.0)
        share = len(wrong) / size
        return share, Counterexample(problem.describe(), "; ".join(parts), *table, share)

    worst, cases = 0.0, 0
    found: Counterexample | None = None
    for problem in todo:
        cases += 1
        share, found = find(problem)
        worst = max(worst, share)
        if found is not None:
            if language is None:

                def retry(candidate: MaskProblem) -> Counterexample | None:
                    _, prefixes = _members(candidate.pattern, candidate.alphabet)
                    if candidate.text not in prefixes or not prefixes:
                        return None
                    return find(candidate)[1]

                _, smaller, steps = shrink(
                    problem, found, MaskProblem.simpler, retry, seconds=shrink_seconds
                )
                found = replace(smaller, shrunk=steps)
            break
    return CheckResult(
        "mask",
        name or str(getattr(fn, "__name__", type(fn).__name__)),
        cases,
        worst,
        "compared",
        0.0,
        found,
        time.perf_counter() - began,
    )


def _walk(
    first: MaskProblem, language: Callable[[bytes], bool], max_tokens: int, horizon: int
) -> list[MaskProblem]:
    out, level = [first], [first]
    for _ in range(max_tokens):
        level = [
            replace(problem, prefix=(*problem.prefix, token))
            for problem in level
            for token in sorted(allowed_tokens(problem, language, horizon=horizon) - {first.eos})
        ][:200]
        out += level
    return out
