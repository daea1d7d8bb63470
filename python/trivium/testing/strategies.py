"""Hypothesis strategies for what decoding code receives; hypothesis is imported when one is made.

They shrink as hypothesis does: towards short, flat and zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import InputError, MissingExtraError
from trivium.testing.laws import FAMILIES, law_pair

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "ROW_KINDS",
    "built_pipelines",
    "law_pairs",
    "laws",
    "logits_rows",
    "params",
    "pipelines",
    "seeds",
    "trees",
    "vocabularies",
]

ROW_KINDS = ("flat", "peaked", "tied", "holes", "truncated", "denormal", "extreme", "any")
"""Shapes of rows of logits."""


def _st() -> Any:
    try:
        from hypothesis import strategies
    except ImportError as error:
        raise MissingExtraError("pip install 'trivium[test]'") from error
    return strategies


def seeds() -> Any:
    """Return a strategy of 64-bit seeds; the edges of 32 and 64 bits are likely."""
    st = _st()
    edges = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1]
    return st.one_of(st.integers(0, 2**64 - 1), st.sampled_from(edges))


def vocabularies(*, min_size: int = 1, max_size: int = 24) -> Any:
    """Return a strategy of token lists: bytes, with shared prefixes, split characters, duplicates.

    Parameters
    ----------
    min_size, max_size : int, optional
        Number of tokens.

    Returns
    -------
    strategy of list of bytes
        No token is empty. Append special tokens as needed.
    """
    st = _st()
    pieces = st.one_of(
        st.binary(min_size=1, max_size=4),
        st.text(min_size=1, max_size=3).map(lambda s: s.encode("utf-8", "surrogatepass")),
        st.sampled_from(
            [
                b"a",
                b"b",
                b"ab",
                b"abc",
                b" ",
                b" a",
                b"\n",
                b'"',
                b"{",
                b"0",
                b"10",
                b"\xe2\x82",
                b"\xac",
                b"\xf0\x9f",
                b"\x00",
                b"\xff",
            ]
        ),
    )
    return st.lists(pieces, min_size=min_size, max_size=max_size)


def logits_rows(
    size: Any = None, *, kind: str = "any", dtype: str = "float32", allow_empty: bool = False
) -> Any:
    """Return a strategy of rows of logits.

    Parameters
    ----------
    size : int or strategy of int, optional
        Vocabulary size; default 1 to 16.
    kind : str, optional
        One of `ROW_KINDS`: nearly equal; spread over many nats; few distinct values; ``-inf``
        among the rest; all but a few ``-inf``; probabilities down to denormals; values up to
        ±60,000; any of these.
    dtype : str, optional
        ``"float64"``, ``"float32"``, ``"float16"``, or ``"bfloat16"``: a float32 array whose values
        are exact in bfloat16.
    allow_empty : bool, optional
        Whether a row may be all ``-inf``.

    Returns
    -------
    strategy of array, shape (size,)
        No NaN, no ``+inf``.
    """
    st = _st()
    if kind not in ROW_KINDS:
        raise InputError(f"kind: {kind!r} is none of {', '.join(ROW_KINDS)}")
    if dtype not in ("float64", "float32", "float16", "bfloat16"):
        raise InputError(f"dtype: {dtype!r} is not served")
    if size is None:
        size = st.integers(1, 16)
    elif isinstance(size, int):
        size = st.just(size)
    inf = float("-inf")

    def span(low: float, high: float) -> Any:
        return st.floats(low, high, allow_nan=False, width=32)

    values = {
        "flat": span(-0.25, 0.25),
        "peaked": span(-30.0, 30.0),
        "tied": st.sampled_from([0.0, 1.0, -1.0]),
        "holes": st.one_of(span(-4.0, 4.0), st.just(inf)),
        "truncated": st.one_of(st.just(inf), st.just(inf), st.just(inf), span(-4.0, 4.0)),
        "denormal": st.one_of(st.just(0.0), span(-104.0, -80.0)),
        "extreme": st.sampled_from([60000.0, -60000.0, 0.0, 1.0, -0.0, 2.0**-24]),
    }

    def row(n: int, which: str) -> Any:
        return st.lists(values[which], min_size=n, max_size=n).map(
            lambda row: _as_dtype(row, dtype, allow_empty)
        )

    kinds = [k for k in ROW_KINDS if k != "any"] if kind == "any" else [kind]
    return st.tuples(size, st.sampled_from(kinds)).flatmap(lambda pair: row(*pair))


def _as_dtype(row: list[float], dtype: str, allow_empty: bool) -> npt.NDArray[Any]:
    if not allow_empty and all(x == float("-inf") for x in row):
        row = [0.0, *row[1:]]
    if dtype == "bfloat16":
        bits = np.array(row, dtype=np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
        return bits.view(np.float32)
    return np.array(row, dtype=dtype)


def laws(size: Any = None) -> Any:
    """Return a strategy of probability laws: float64 arrays of sum 1, zeros likely.

    Parameters
    ----------
    size : int or strategy of int, optional
        Vocabulary size; default 1 to 8.
    """
    st = _st()
    size = st.integers(1, 8) if size is None else st.just(size) if isinstance(size, int) else size
    weight = st.one_of(
        st.integers(0, 8).map(float), st.floats(0.0, 1.0), st.sampled_from([1e-300, 1e-12])
    )

    def law(n: int) -> Any:
        return st.lists(weight, min_size=n, max_size=n).map(_normal)

    return size.flatmap(law)


def _normal(weights: list[float]) -> npt.NDArray[np.float64]:
    row = np.array(weights)
    if row.sum() <= 0.0 or not np.isfinite(1.0 / row.sum()):
        row = np.ones(len(row))
    out: npt.NDArray[np.float64] = row / row.sum()
    return out


def law_pairs(size: Any = None, *, family: str | None = None) -> Any:
    """Return a strategy of pairs of a target and a draft law of one family.

    Parameters
    ----------
    size : int or strategy of int, optional
        Vocabulary size, at least 2; default 2 to 6.
    family : str, optional
        One of `trivium.testing.laws.FAMILIES`; default any.
    """
    st = _st()
    if family is not None and family not in FAMILIES:
        raise InputError(f"family: {family!r} is none of {', '.join(FAMILIES)}")
    size = st.integers(2, 6) if size is None else st.just(size) if isinstance(size, int) else size
    names = st.sampled_from([family] if family else list(FAMILIES))

    def draw(parts: tuple[int, str, int]) -> tuple[Any, Any]:
        n, name, seed = parts
        p, q = law_pair(name, n, np.random.default_rng(seed))
        return np.array(p), np.array(q)

    return st.tuples(size, names, st.integers(0, 2**32 - 1)).map(draw)


def trees(
    *, vocab: int = 8, max_nodes: int = 12, duplicates: bool = False, chain: bool = False
) -> Any:
    """Return a strategy of drafted trees.

    Parameters
    ----------
    vocab : int, optional
        Tokens are below it.
    max_nodes : int, optional
        Node 0 counted.
    duplicates : bool, optional
        Whether siblings may have the same token.
    chain : bool, optional
        Chains only.

    Returns
    -------
    strategy of (tokens, parents)
        Two lists of int; node 0's parent is -1 and parents come before children.
    """
    st = _st()

    def build(picks: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
        tokens, parents = [picks[0][1]], [-1]
        taken = set()
        for where, token in picks[1:]:
            parent = len(tokens) - 1 if chain else where % len(tokens)
            if duplicates or (parent, token) not in taken:
                taken.add((parent, token))
                tokens.append(token)
                parents.append(parent)
        return tokens, parents

    pick = st.tuples(st.integers(0, max_nodes), st.integers(0, vocab - 1))
    return st.lists(pick, min_size=1, max_size=max_nodes).map(build)


def params() -> Any:
    """Return a strategy of `trivium.testing.Params`; neutral values are likely."""
    from trivium.testing.samplers import Params

    st = _st()
    return st.builds(
        Params,
        temperature=st.one_of(st.just(1.0), st.just(0.0), st.floats(0.1, 3.0)),
        top_k=st.one_of(st.just(0), st.integers(1, 20)),
        top_p=st.one_of(st.just(1.0), st.floats(0.05, 1.0)),
        min_p=st.one_of(st.just(0.0), st.floats(0.0, 1.0)),
    )


def pipelines(*, max_steps: int = 4) -> Any:
    """Return a strategy of sampling pipelines as plain data.

    Parameters
    ----------
    max_steps : int, optional
        Number of processors.

    Returns
    -------
    strategy of list of (name, value)
        Names are ``"temperature"``, ``"top_k"``, ``"top_p"`` and ``"min_p"``, in any order.
    """
    st = _st()
    step = st.one_of(
        st.tuples(st.just("temperature"), st.floats(0.1, 3.0)),
        st.tuples(st.just("top_k"), st.integers(1, 20)),
        st.tuples(st.just("top_p"), st.floats(0.05, 1.0)),
        st.tuples(st.just("min_p"), st.floats(0.0, 1.0)),
    )
    return st.lists(step, max_size=max_steps)


def built_pipelines(*, vocab: int = 16, max_rules: int = 5) -> Any:
    """Return a strategy of `trivium.sampling.Pipeline` objects in every order.

    Parameters
    ----------
    vocab : int, optional
        Ids of token rules are below it; two of them at least stay allowed.
    max_rules : int, optional
        Number of options that are set.

    Returns
    -------
    strategy of Pipeline
        Hard masks, penalties, temperature, truncation, mirostat.
    """
    from trivium.sampling import Pipeline

    st = _st()
    some = st.lists(st.integers(0, vocab - 3), min_size=1, max_size=3, unique=True)
    options = {
        "temperature": st.floats(0.1, 3.0),
        "top_k": st.integers(1, vocab),
        "top_p": st.floats(0.05, 1.0),
        "min_p": st.floats(0.0, 1.0),
        "typical": st.floats(0.05, 1.0),
        "epsilon": st.floats(0.0, 0.5),
        "eta": st.floats(0.0, 0.5),
        "top_h": st.floats(0.05, 1.0),
        "top_n_sigma": st.floats(0.1, 3.0),
        "xtc": st.floats(0.0, 1.0),
        "mirostat": st.sampled_from([1, 2]),
        "repetition_penalty": st.floats(0.5, 2.0),
        "frequency_penalty": st.floats(-1.0, 1.0),
        "presence_penalty": st.floats(-1.0, 1.0),
        "penalty_decoding": st.floats(1.0, 2.0),
        "dry": st.floats(0.0, 2.0),
        "rpg": st.floats(0.1, 1.0),
        "momentum": st.floats(0.0, 0.5),
        "no_repeat_ngram": st.integers(2, 4),
        "logit_bias": st.dictionaries(st.integers(0, vocab - 1), st.floats(-5.0, 5.0), max_size=3),
        "suppress_tokens": some,
    }
    names = st.lists(st.sampled_from(sorted(options)), max_size=max_rules, unique=True)
    chosen = names.flatmap(lambda keys: st.fixed_dictionaries({k: options[k] for k in keys}))
    orders = st.sampled_from(["canonical", "transformers", "llama.cpp", "vllm"])
    return st.builds(lambda values, order: Pipeline(order=order, **values), chosen, orders)
