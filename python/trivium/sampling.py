"""The processed law: logits processors in order, as plain data, and the draws over it.

A `Pipeline` holds rules: masks, penalties, temperatures, truncations. It is frozen, hashes stably
and travels as JSON. ``Pipeline.sample`` replaces a sampler, ``Pipeline.start`` follows one
text, and ``Speculator.start(pipeline=...)`` makes the pipeline's law the target of verification,
with penalties and masks advanced along every draft path.

All noise is addressed by (seed, absolute index, branch): a token depends on its row, its history
and its address, never on the batch around it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trivium import _core
from trivium._core import Heal, Sampler
from trivium._core import Pipeline as CorePipeline
from trivium._sampling.contrastive import Contrastive
from trivium._sampling.presets import PRESETS, Preset, preset
from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from trivium.vocabulary import Vocabulary

__all__ = [
    "PRESETS",
    "Contrastive",
    "Details",
    "Heal",
    "Pipeline",
    "Preset",
    "Ranked",
    "Sampler",
    "back_off",
    "conditional_maxima",
    "covers",
    "preset",
    "repeats",
]

# Keyword -> (rule, its main parameter).
_RULES = {
    "self_debias": ("self_debias", "decay"),
    "no_repeat_ngram": ("ngram_block", "n"),
    "repetition_penalty": ("repetition", "penalty"),
    "penalty_decoding": ("forgetting", "penalty"),
    "dry": ("dry", "multiplier"),
    "temperature": ("temperature", "temperature"),
    "top_h": ("top_h", "h"),
    "top_k": ("top_k", "k"),
    "top_p": ("top_p", "p"),
    "min_p": ("min_p", "m"),
    "typical": ("typical", "mass"),
    "epsilon": ("epsilon", "epsilon"),
    "eta": ("eta", "epsilon"),
    "top_n_sigma": ("top_n_sigma", "n"),
    "xtc": ("xtc", "probability"),
    "mirostat": ("mirostat", "version"),
    "momentum": ("momentum", "alpha"),
    "diversity": ("diversity", "penalty"),
    "encoder_no_repeat_ngram": ("encoder_ngram", "n"),
}


_LOGPROBS = ("processed", "raw", "fused")


class Details(NamedTuple):
    """What a draw reports besides its token: float32 arrays, one entry a row."""

    logprob_raw: NDArray[np.float32]
    """Natural log-probability before every rule and mask."""
    logprob_fused: NDArray[np.float32]
    """After fusion with other rows, before masks, penalties and truncation."""
    ln_kept: NDArray[np.float32]
    """ln Z_t, the kept mass. Its sum along a text is the ``log_global_weight`` with which samples
    of the locally normalised law are reweighted to the global one."""
    surprise: NDArray[np.float32]
    """-log2 of the processed probability, as mirostat measures it."""


class Ranked(NamedTuple):
    """An ordered sample without replacement."""

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    """Natural log-probability of each token under the processed law."""
    keys: NDArray[np.float32]
    """Perturbed log-probabilities, descending."""
    log_inclusion: NDArray[np.float32]
    """ln of the probability that the token is in the sample, given the threshold: the mean of
    ``exp(logprobs - log_inclusion) * f(tokens)`` summed over a sample is unbiased."""


class Pipeline:
    """Logits processors in order; immutable.

    Parameters
    ----------
    steps : sequence of mapping, optional
        Rules as in `to_json`: ``{"rule": "top_k", "k": 40}``. Keywords below add rules.
    order : {"canonical", "transformers", "llama.cpp", "vllm"} or None, optional
        Sorts the rules; None leaves `steps` as given and appends those of keywords. Canonical is
        masks, edits (bias and penalties), temperature, truncation. Temperature and truncation do
        not commute: llama.cpp truncates first.
    temperature : float, optional
        Below 1e-5: greedy, lowest id on ties.
    dynatemp : mapping, optional
        ``low``, ``high``, ``exponent``: temperature by entropy.
    top_k, top_p, min_p, typical, epsilon, eta, top_h, top_n_sigma : optional
        Truncations.
    xtc : float or mapping, optional
        Probability, or ``probability`` and ``threshold``.
    mirostat : int or mapping, optional
        Version, or ``version``, ``tau``, ``eta``, ``m``, ``surprise_on``. Its running target is
        kept by `start` and by requests; a bare `sample` takes that of a new text.
    momentum : float or mapping, optional
        alpha, or ``alpha``, ``k``, ``resistance`` (R by length), ``cap``, ``include_prompt``:
        greedy with a resistance against repetitions; every draw is the choice.
    repetition_penalty : float or mapping, optional
        Penalty, or ``penalty``, ``scope`` ("all", "generated", "prompt") and ``window``.
    frequency_penalty, presence_penalty : float, optional
        Over generated tokens.
    penalty_decoding : float or mapping, optional
        ``penalty``, ``window``, ``length``, ``target``, ``eos``.
    dry : float or mapping, optional
        ``multiplier``, ``base``, ``allowed``, ``window``, ``breakers``.
    rpg : float or mapping, optional
        Factor, or ``factor``, ``eos_factor``, ``eos``, ``least``, ``window``, ``include_prompt``,
        ``symbols`` (class of each token): penalty on one more copy of a repeated pattern.
    diversity : float or mapping, optional
        Hamming diversity: penalty in nats for each sibling (``peers`` of `sample`) that chose the
        token at this step.
    encoder_repetition : mapping, optional
        ``penalty`` and ``tokens`` (input of an encoder): above 1 makes these tokens more likely.
    encoder_no_repeat_ngram : mapping, optional
        ``n`` and ``tokens``: no n-gram of the encoder's input.
    no_repeat_ngram : int or mapping, optional
        ``n`` and ``include_prompt``.
    logit_bias : mapping of int to float, optional
        Finite numbers; to forbid tokens use `suppress_tokens`.
    sequence_bias : sequence of (sequence of int, float), optional
        Bias of the last token of a sequence where the text ends with the rest of it.
    length_decay : mapping, optional
        ``start``, ``factor``, ``eos``.
    allowed_tokens, suppress_tokens, begin_suppress_tokens : sequence of int, optional
        Hard masks.
    min_new_tokens, min_length : int, optional
        End tokens are removed before; `min_length` counts the prompt. Need `eos`.
    eos : int or sequence of int, optional
        End tokens of the two above, and of `rpg`.
    bad_words : sequence of sequence of int, optional
        Sequences that may not be completed.
    forced : mapping of int to int, optional
        Token that must come after so many generated tokens.
    self_debias : float or mapping, optional
        ``decay`` and ``epsilon``; needs the rows of biased prompts (``aux``) with every draw.
    on_empty : {"error", "unmask"} or {"eos": int}, optional
        What happens to a row of which the masks leave nothing: `StateError`; processing without the
        masks of rules (``allowed`` still holds); or the end token, whatever the masks say. A row
        that the model spoiled is an error under each.

    Raises
    ------
    InputError
        A parameter is out of range or of the wrong kind.
    UnsupportedError
        The order does not exist.

    Examples
    --------
    >>> p = Pipeline(temperature=0.7, top_p=0.9, repetition_penalty=1.1)
    >>> token, logprob = p.sample([0.0, 1.0, 3.0], seed=7, history=[2])
    >>> token
    2
    >>> Pipeline.from_json(p.to_json()) == p
    True
    """

    __slots__ = ("_core", "_json")

    _core: CorePipeline
    _json: str

    def __init__(
        self,
        steps: Sequence[Mapping[str, Any]] = (),
        *,
        order: str | None = "canonical",
        temperature: float | None = None,
        dynatemp: Mapping[str, Any] | None = None,
        top_k: Any | None = None,
        top_p: Any | None = None,
        min_p: Any | None = None,
        typical: Any | None = None,
        epsilon: Any | None = None,
        eta: Any | None = None,
        top_h: Any | None = None,
        top_n_sigma: Any | None = None,
        xtc: Any | None = None,
        mirostat: Any | None = None,
        repetition_penalty: Any | None = None,
        frequency_penalty: float | None = None,
        presence_penalty: float | None = None,
        penalty_decoding: Any | None = None,
        dry: Any | None = None,
        no_repeat_ngram: Any | None = None,
        logit_bias: Mapping[int, float] | None = None,
        sequence_bias: Sequence[tuple[Sequence[int], float]] | None = None,
        length_decay: Mapping[str, Any] | None = None,
        allowed_tokens: Sequence[int] | None = None,
        suppress_tokens: Sequence[int] | None = None,
        begin_suppress_tokens: Sequence[int] | None = None,
        min_new_tokens: int | None = None,
        min_length: int | None = None,
        eos: int | Sequence[int] = (),
        bad_words: Sequence[Sequence[int]] | None = None,
        forced: Mapping[int, int] | None = None,
        self_debias: Any | None = None,
        momentum: Any | None = None,
        rpg: Any | None = None,
        diversity: Any | None = None,
        encoder_repetition: Mapping[str, Any] | None = None,
        encoder_no_repeat_ngram: Mapping[str, Any] | None = None,
        on_empty: Any = "error",
    ) -> None:
        given = locals()
        rules = [dict(step) for step in steps]
        for keyword, (rule, main) in _RULES.items():
            if (value := given[keyword]) is not None:
                rules.append({"rule": rule, **_parameters(value, main)})
        ends = [eos] if isinstance(eos, (int, np.integer)) else list(eos)
        if frequency_penalty is not None or presence_penalty is not None:
            rules.append(
                {
                    "rule": "frequency",
                    "frequency": frequency_penalty or 0.0,
                    "presence": presence_penalty or 0.0,
                }
            )
        if rpg is not None:
            rules.append({"rule": "rpg", "eos": ends, **_parameters(rpg, "factor")})
        if encoder_repetition is not None:
            seen = sorted({int(t) for t in encoder_repetition.get("tokens", ())})
            rules.append({"rule": "encoder_repetition", **encoder_repetition, "tokens": seen})
        if dynatemp is not None:
            rules.append({"rule": "dynatemp", **dynatemp})
        if length_decay is not None:
            rules.append({"rule": "length_decay", **length_decay})
        if logit_bias is not None:
            rules.append({"rule": "logit_bias", "bias": sorted(logit_bias.items())})
        if sequence_bias is not None:
            pairs = [[list(tokens), bias] for tokens, bias in sequence_bias]
            rules.append({"rule": "sequence_bias", "bias": pairs})
        if allowed_tokens is not None:
            rules.append({"rule": "allow", "tokens": sorted({int(t) for t in allowed_tokens})})
        if suppress_tokens is not None:
            rules.append({"rule": "suppress", "tokens": list(suppress_tokens)})
        if begin_suppress_tokens is not None:
            tokens = list(begin_suppress_tokens)
            rules.append({"rule": "suppress", "tokens": tokens, "begin_only": True})
        if min_new_tokens or min_length:
            if not ends:
                raise InputError("eos: is needed by min_new_tokens and min_length")
            rules.append(
                {
                    "rule": "min_length",
                    "new_tokens": min_new_tokens or 0,
                    "total": min_length or 0,
                    "eos": ends,
                }
            )
        if bad_words is not None:
            rules.append({"rule": "bad_words", "words": [list(word) for word in bad_words]})
        if forced is not None:
            rules.append({"rule": "forced", "at": sorted(forced.items())})
        data = {"steps": rules, "on_empty": on_empty}
        self._set(CorePipeline(_dumps(data), order))

    def _set(self, core: CorePipeline) -> None:
        object.__setattr__(self, "_core", core)
        object.__setattr__(self, "_json", core.to_json())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Pipeline is frozen; make another one ({name})")

    @classmethod
    def from_json(cls, text: str) -> Pipeline:
        """Read what `to_json` wrote; the order of rules is kept.

        Raises
        ------
        InputError
            The text is not the JSON of a pipeline.
        """
        self = cls.__new__(cls)
        self._set(CorePipeline(text, None))
        return self

    def to_json(self) -> str:
        """Canonical JSON: every parameter in a fixed order."""
        return self._json

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The rules, in the order in which they run."""
        steps: list[dict[str, Any]] = json.loads(self._json)["steps"]
        return steps

    @property
    def on_empty(self) -> Any:
        """The policy for rows that the masks empty."""
        return json.loads(self._json).get("on_empty", "error")

    @property
    def stable_hash(self) -> int:
        """64 bits of the canonical JSON, equal on every machine."""
        return self._core.stable_hash()

    def __hash__(self) -> int:
        return hash(self._json)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pipeline) and self._json == other._json

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Pipeline.from_json, (self._json,))

    def __repr__(self) -> str:
        policy = "" if self.on_empty == "error" else f", on_empty={self.on_empty!r}"
        return f"Pipeline({self.steps}, order=None{policy})"

    def sample(
        self,
        logits: Any,
        *,
        seed: Any,
        index: Any | None = None,
        branch: Any = 0,
        draw: str = "cdf",
        history: Any = (),
        prompt_len: Any = 0,
        allowed: Any | None = None,
        temperature: Any | None = None,
        top_k: Any | None = None,
        top_p: Any | None = None,
        min_p: Any | None = None,
        aux: Sequence[Any] = (),
        peers: Any = (),
        logprobs: str = "processed",
        details: bool = False,
    ) -> Any:
        """Process rows and draw one token of each.

        Parameters
        ----------
        logits : float array, shape (vocab,) or (rows, vocab)
            float32, float16 or bfloat16 (float64 is rounded). A CUDA array is sampled on its
            device if the rules are penalties, temperature, top-k, top-p and min-p in the canonical
            order, without `details`; others are copied to the host, with one warning.
        seed : int, or one a row
            Seed of the request, 64 bits.
        index : int, or one a row, optional
            Absolute index of the token being chosen, prompt included; default ``len(history)``.
        branch : int, or one a row, optional
            Trace number among sibling samples of one seed.
        draw : {"cdf", "race"}, optional
            Inverse CDF in token-id order, or the Gumbel race.
        history : sequence of int, or one sequence a row, optional
            Tokens so far.
        prompt_len : int, or one a row, optional
            How many of them are the prompt.
        allowed : bool array, shape (vocab,) or (rows, vocab), or int32 words, optional
            Hard mask, applied before every rule; packed words have bit ``i % 32`` of word
            ``i // 32``, 1 = allowed.
        temperature, top_k, top_p, min_p : one a row, optional
            Replace the rule's value for this row; the pipeline must have the rule.
        aux : sequence of float arrays, shape of `logits`, optional
            Rows of biased prompts, for self-debiasing.
        peers : sequence of int, or one sequence a row, optional
            Tokens that siblings chose at this step, for `diversity`.
        logprobs : {"processed", "raw", "fused"}, optional
            The law of the log-probability that is returned: after every rule, the model's own, or
            after fusion with other rows (the model's own unless a rule fuses).
        details : bool, optional
            Also return `Details`; one more exponential a logit.

        Returns
        -------
        (token, logprob) or (token, logprob, details)
            int and float for one row, int32 and float32 arrays for several. ``logprob`` is natural.

        Raises
        ------
        InputError
            Wrong shapes; NaN or +inf in a logit that is allowed; a value out of range.
        StateError
            The masks leave nothing; the message names the one that emptied the row.
        TokenError
            A rule names an id beyond the row.
        """
        logits, rows = _rows(logits)
        call = self._call(rows, seed, index, branch, history, prompt_len, allowed)
        hyper = _hyper(len(call[0]), temperature, top_k, top_p, min_p)
        seeds, indices, branches, histories, prompts, words = call
        if logprobs not in _LOGPROBS:
            raise InputError(f"logprobs: {logprobs!r} is none of {', '.join(_LOGPROBS)}")
        tokens, values, more = self._core.sample(
            logits,
            seeds,
            indices,
            branches,
            draw,
            histories,
            prompts,
            words,
            hyper,
            list(aux),
            _peers(rows, peers),
            details or logprobs != "processed",
        )
        if more is not None and logprobs != "processed":
            values = more[0 if logprobs == "raw" else 1]
        drawn: tuple[Any, Any] = (tokens, values)
        if rows is None:
            drawn = (int(tokens[0]), float(values[0]))
        return (*drawn, Details(*more)) if more is not None and details else drawn

    def process(
        self,
        logits: Any,
        *,
        seed: Any = 0,
        index: Any | None = None,
        branch: Any = 0,
        history: Any = (),
        prompt_len: Any = 0,
        allowed: Any | None = None,
        temperature: Any | None = None,
        top_k: Any | None = None,
        top_p: Any | None = None,
        min_p: Any | None = None,
        aux: Sequence[Any] = (),
        peers: Any = (),
    ) -> NDArray[np.float32]:
        """Apply the rules: logits over temperature, -inf where removed.

        Arguments as for `sample`; ``seed`` matters to XTC alone. Greedy rows keep one token.

        Returns
        -------
        float32 array, shape of `logits`
            The law is its softmax.
        """
        logits, rows = _rows(logits)
        call = self._call(rows, seed, index, branch, history, prompt_len, allowed)
        hyper = _hyper(len(call[0]), temperature, top_k, top_p, min_p)
        seeds, indices, branches, histories, prompts, words = call
        out = self._core.process(
            logits,
            seeds,
            indices,
            branches,
            histories,
            prompts,
            words,
            hyper,
            list(aux),
            _peers(rows, peers),
        )
        return out[0] if rows is None else out

    def sample_without_replacement(
        self,
        logits: Any,
        k: int,
        *,
        seed: int,
        index: int | None = None,
        branch: int = 0,
        history: Any = (),
        prompt_len: int = 0,
        allowed: Any | None = None,
    ) -> Ranked:
        """Draw `k` tokens of one row without replacement, in order (Gumbel-top-k).

        The first is the one that ``draw="race"`` gives; fewer than `k` come where the law has
        fewer.
        """
        logits, rows = _rows(logits)
        if rows is not None and rows != 1:
            raise InputError(f"logits: has {rows} rows; one is expected")
        index = len(history) if index is None else index
        words = _words(allowed)
        return Ranked(
            *self._core.sample_without(
                logits, k, seed, index, branch, _ids(history), prompt_len, words
            )
        )

    def start(
        self,
        prompt_ids: Any = (),
        *,
        seed: int = 0,
        branch: int = 0,
        draw: str = "cdf",
        logprobs: str = "processed",
        weighed: bool = False,
    ) -> Sampler:
        """Follow one text from its prompt: history, penalties and mirostat's target are kept.

        Parameters
        ----------
        prompt_ids : sequence of int, optional
        seed, branch, draw, logprobs : optional
            As for `sample`.
        weighed : bool, optional
            Keep ``Sampler.log_global_weight``, the sum of ln Z_t: samples weighted by its
            exponential have the global law of texts, not the locally normalised one.

        Returns
        -------
        Sampler
            ``step(logits)`` draws and appends; ``commit``, ``rollback``, ``sync``, ``fork`` and
            ``reset`` follow the laws of every per-sequence object.
        """
        return self._core.start(_ids(prompt_ids), seed, branch, draw, logprobs, weighed)

    def _call(
        self,
        rows: int | None,
        seed: Any,
        index: Any,
        branch: Any,
        history: Any,
        prompt_len: Any,
        allowed: Any,
    ) -> tuple[Any, ...]:
        n = 1 if rows is None else rows
        if rows is None:
            histories = [_ids(history)]
        elif len(history) == 0:
            histories = [_ids(())] * n
        else:
            histories = [_ids(one) for one in history]
        if index is None:
            index = [len(one) for one in histories]
        return (
            _column("seed", seed, n),
            _column("index", index, n),
            _column("branch", branch, n),
            histories,
            _column("prompt_len", prompt_len, n),
            _words(allowed),
        )


def back_off(vocab: Vocabulary, prompt_ids: Any) -> int:
    """Count the prompt tokens up to the last boundary that no token of the vocabulary can cross.

    A prompt that ends inside a token biases the law of what follows: back off to this many tokens
    and continue under ``Heal(vocab, bytes of the rest)``.
    """
    return _core.back_off(vocab, _ids(prompt_ids))


def conditional_maxima(
    logprobs: Any, maximum: float, *, seed: int, index: int, branch: int = 0
) -> NDArray[np.float64]:
    """Perturb the children of a node so that their largest value is the node's own.

    With the node's ``maximum`` a Gumbel variable around its log-probability, the result has the law
    of independent Gumbel noise on every child: a tree perturbed top-down is a sample of its leaves
    without replacement (stochastic beam search).

    Parameters
    ----------
    logprobs : float array, shape (children,)
        Natural log-probabilities of the children, the parent's included; -inf stays.
    maximum : float
        Perturbed log-probability of the parent.
    seed, index, branch : int
        Address of the noise, which is the race's.

    Returns
    -------
    float64 array, shape of `logprobs`
        Its maximum is `maximum`, bit for bit. O(children).

    Examples
    --------
    >>> keys = conditional_maxima([-0.7, -0.7, float("-inf")], 0.25, seed=1, index=2)
    >>> float(keys.max()), float(keys[2])
    (0.25, -inf)
    """
    values = np.asarray(logprobs, dtype=np.float64)
    if values.ndim != 1:
        raise InputError(f"logprobs: has shape {values.shape}; one axis is expected")
    return _core.conditional_maxima(values.tolist(), maximum, seed, index, branch)


def repeats(symbols: Any) -> tuple[int, int]:
    """Count the copies at the end of a sequence: (copies, symbols a copy). O(n).

    `symbols` are integers from 0: tokens, classes, or what an incremental parser emits. The period
    is the one with most copies, of several the longest; (1, n) where nothing repeats.

    Examples
    --------
    >>> repeats([7, 0, 1, 0, 1, 0, 1])
    (3, 2)
    """
    return _core.repeats(symbols if hasattr(symbols, "__dlpack__") else list(symbols))


def covers(
    vocab: Vocabulary,
    data: bytes,
    law: Callable[[list[int]], Sequence[float]],
    *,
    max_covers: int = 4096,
) -> list[tuple[list[int], float]]:
    """List every token sequence that covers `data`, with ln of its probability.

    Parameters
    ----------
    vocab : Vocabulary
    data : bytes
        The text that the output must begin with.
    law : callable
        Natural log-probabilities of the next token after a path of tokens.
    max_covers : int, optional
        Bound on open and found covers.

    Returns
    -------
    list of (tokens, float)
        The exponentials add up to the probability that the text begins with `data`.

    Raises
    ------
    LimitError
        There are more than `max_covers`.
    """
    return _core.covers(vocab, data, law, max_covers)


def _parameters(value: Any, main: str) -> dict[str, Any]:
    return dict(value) if hasattr(value, "items") else {main: value}


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, tuple, range)):
        return list(value)
    raise InputError(f"pipeline: {value!r} is not plain data")


def _dumps(data: Any) -> str:
    try:
        return json.dumps(data, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"pipeline: {error}; numbers must be finite") from error


def _rows(logits: Any) -> tuple[Any, int | None]:
    """Logits as an array, and the number of rows (None for a single one)."""
    if not hasattr(logits, "shape"):
        logits = np.asarray(logits, dtype=np.float32)
    if len(logits.shape) == 1:
        return logits, None
    if len(logits.shape) != 2:
        raise InputError(f"logits: has shape {tuple(logits.shape)}; one or two axes are expected")
    return logits, int(logits.shape[0])


def _peers(rows: int | None, peers: Any) -> list[Any]:
    """One list of tokens a row; empty where none is given."""
    if len(peers) == 0:
        return []
    return [_ids(peers)] if rows is None else [_ids(one) for one in peers]


def _ids(tokens: Any) -> Any:
    return tokens if hasattr(tokens, "__dlpack__") else list(tokens)


def _column(name: str, value: Any, n: int) -> list[int]:
    """One integer a row, from a scalar or a sequence."""
    values = [int(value)] * n if np.ndim(value) == 0 else [int(v) for v in value]
    if len(values) != n:
        raise InputError(f"{name}: {len(values)} values for {n} rows")
    if any(v < 0 for v in values):
        raise InputError(f"{name}: must not be negative")
    return values


def _hyper(n: int, *columns: Any) -> list[tuple[Any, ...]]:
    """One (temperature, top_k, top_p, min_p) a row; empty where none is given."""
    if all(column is None for column in columns):
        return []
    kinds = (float, int, float, float)
    names = ("temperature", "top_k", "top_p", "min_p")
    filled = []
    for name, kind, column in zip(names, kinds, columns, strict=True):
        if column is None:
            values: list[Any] = [None] * n
        elif np.ndim(column) == 0:
            values = [kind(column)] * n
        else:
            values = [kind(v) for v in column]
        if len(values) != n:
            raise InputError(f"{name}: {len(values)} values for {n} rows")
        filled.append(values)
    return list(zip(*filled, strict=True))


def _words(allowed: Any) -> Any:
    """Packed words, two axes, from words or booleans."""
    if allowed is None:
        return None
    array = np.atleast_2d(np.asarray(allowed))
    if array.dtype == np.bool_:
        bits = np.packbits(array, axis=1, bitorder="little")
        pad = -bits.shape[1] % 4
        return np.ascontiguousarray(np.pad(bits, ((0, 0), (0, pad)))).view(np.int32)
    if array.dtype == np.uint32:
        array = array.view(np.int32)
    return np.ascontiguousarray(array)
