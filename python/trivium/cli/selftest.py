"""Self-tests of an installation: small, exact, well under a second together.

Each one compares the compiled library with a few lines of Python that say the same thing: the noise
with Philox on Python integers, the mask with a language that is written out, the verifier with the
plain loop. What they catch is a broken build or machine, not a subtle defect; the test suites do
that.
"""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InternalError
from trivium.speculator import Speculator
from trivium.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = ["TESTS", "SelfTest", "philox", "run"]

_WORD = 0xFFFFFFFF
_CDF, _RACE = 0, 1


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Outcome of one self-test."""

    name: str
    ok: bool
    detail: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return asdict(self)


def philox(seed: int, block: int, index: int, purpose: int, branch: int) -> tuple[int, ...]:
    """Philox4x32-10 at the address of a draw, on Python integers.

    Parameters
    ----------
    seed : int
        Request seed: the key.
    block, index, purpose, branch : int
        The four counter words.

    Returns
    -------
    tuple of int
        Four 32-bit words.
    """
    c = [block, index, purpose, branch]
    k = [seed & _WORD, seed >> 32]
    for _ in range(10):
        low, high = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(high >> 32) ^ c[1] ^ k[0], high & _WORD, (low >> 32) ^ c[3] ^ k[1], low & _WORD]
        k = [(k[0] + 0x9E3779B9) & _WORD, (k[1] + 0xBB67AE85) & _WORD]
    return tuple(c)


def _uniform(seed: int, index: int, purpose: int, branch: int, draw: int = 0) -> float:
    lanes = philox(seed, draw >> 1, index, purpose, branch)
    a, b = lanes[2 * (draw & 1)], lanes[2 * (draw & 1) + 1]
    return ((a >> 5) * 2.0**26 + (b >> 6)) * 2.0**-53


def _drawn(seed: int, index: int, branch: int, draw: str, width: int) -> int:
    """Token that the library draws from a flat law at an address."""
    spec = Speculator(width, sources=[], seed=seed)
    request = spec.start([0] * index, branch=branch, draw=draw)
    batch = spec.propose([request])
    return int(spec.verify(batch, logits=np.zeros((1, width), np.float32)).tokens[0])


def _check(ok: bool, what: str) -> None:
    if not ok:
        raise InternalError(what)


def _noise() -> str:
    golden = [
        (_uniform(42, 7, _CDF, 0), 0.771734270497274),
        (_uniform(42, 7, 2, 3, draw=5), 0.015941900737701076),
        (philox(42, 1, 7, _RACE, 0)[1], 2747578971),
    ]
    for found, wanted in golden:
        _check(found == wanted, f"golden value {wanted} came out as {found}")
    cases = list(itertools.product((42, 2**64 - 1), (1, 7, 300), (0, 3)))
    for seed, index, branch in cases:
        # On a flat law over 4096 tokens the draw is the scalar itself, cut to 12 bits.
        wanted = math.floor(4096 * _uniform(seed, index, _CDF, branch))
        found = _drawn(seed, index, branch, "cdf", 4096)
        _check(found == wanted, f"cdf at {seed, index, branch}: token {found}, not {wanted}")
        words = [philox(seed, v >> 2, index, _RACE, branch)[v & 3] for v in range(64)]
        wanted = max(range(64), key=words.__getitem__)
        found = _drawn(seed, index, branch, "race", 64)
        _check(found == wanted, f"race at {seed, index, branch}: token {found}, not {wanted}")
    return f"3 golden values, {2 * len(cases)} draws"


def _mask() -> str:
    from trivium.grammar import GrammarMask

    tokens = [b"a", b"b", b"c", b"ab", b"ba", b"abc", b"\xc3", b"\xa9", b""]
    vocab = Vocabulary(tokens, eos=[8], special={8: "</s>"})
    # (ab|ba){1,2}(c|é)?, written out
    pairs = [b"ab", b"ba", *(x + y for x in (b"ab", b"ba") for y in (b"ab", b"ba"))]
    language = [p + end for p in pairs for end in (b"", b"c", "é".encode())]
    matcher = GrammarMask.regex("(ab|ba){1,2}(c|é)?", vocab).matcher()
    row = np.zeros(1, np.int32)
    num_rows = 0
    todo: list[list[int]] = [[]]
    while todo:
        path = todo.pop()
        matcher.sync(path)
        matcher.fill(row)
        text = b"".join(tokens[t] for t in path)
        for t, token in enumerate(tokens):
            may_end = text in language
            wanted = may_end if t == 8 else any(s.startswith(text + token) for s in language)
            found = bool(int(row[0]) >> t & 1)
            _check(found == wanted, f"after {text!r} token {token!r}: {found}, not {wanted}")
            if wanted and t != 8:
                todo.append([*path, t])
        num_rows += 1
    return f"{num_rows} masks against the language written out"


def _toy(tokens: list[int], width: int) -> npt.NDArray[np.float32]:
    """Logits of a toy model: a fixed function of the last two tokens."""
    state = (tokens[-1] * 31 + (tokens[-2] if len(tokens) > 1 else 0)) % 7
    return np.random.default_rng(state).normal(0, 2.5, width).astype(np.float32)


def _verify() -> str:
    width, length, calls, total = 16, 60, 0, 0
    for temperature in (0.0, 0.8):
        texts = []
        for sources in ([], ["suffix", "recycle"]):
            spec = Speculator(width, sources=sources, policy="full", max_nodes=12, seed=5)
            request = spec.start([1, 2, 3])
            while len(request) < 3 + length:
                batch = spec.propose([request])
                texts_to = [request.tokens.tolist()]
                for parent, token in zip(batch.parents[1:], batch.tokens[1:], strict=True):
                    texts_to.append([*texts_to[parent], int(token)])
                rows = [_toy(text, width) for text in texts_to]
                out = spec.verify(batch, logits=np.stack(rows), temperature=temperature)
                spec.commit(out)
                if sources:
                    calls, total = calls + 1, total + len(out.tokens)
            texts.append(request.tokens.tolist()[: 3 + length])
        plain, drafted = texts
        _check(plain == drafted, f"texts differ at temperature {temperature}")
    _check(total > calls, "no draft was accepted")
    return f"identical with and without drafts, {total / calls:.2f} tokens a call"


TESTS: dict[str, Callable[[], str]] = {"noise": _noise, "mask": _mask, "verify": _verify}
"""The self-tests by name; each returns what it has seen, or raises."""


def run() -> list[SelfTest]:
    """Run every self-test.

    Returns
    -------
    list of SelfTest
        One outcome each; a test that raises has failed.
    """
    outcomes = []
    for name, test in TESTS.items():
        began = time.perf_counter()
        try:
            ok, detail = True, test()
        except Exception as error:
            ok, detail = False, f"{type(error).__name__}: {error}"
        outcomes.append(SelfTest(name, ok, detail, round(time.perf_counter() - began, 4)))
    return outcomes
