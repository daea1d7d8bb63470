"""`generate`: the reference host loop around any causal language model of transformers.

Each step drafts a tree for every request, runs the model once over all nodes of all trees, lets the
speculator draw the model's own token at each node along the path, and keeps what agrees. With one
seed the text does not depend on the speculator: drafts decide how many tokens one forward pass
yields, never which. The loop without a speculator is this one without drafts.

torch and transformers are imported when a function is called.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from trivium.errors import InputError, MissingExtraError
from trivium.integrations._transformers.inputs import column, end_ids, prompts_of
from trivium.integrations._transformers.settings import (
    Cascade,
    DraftModel,
    EarlyExit,
    Heads,
    HostDrafter,
    LayerSkip,
    Lookahead,
    Retrieval,
    Routed,
)
from trivium.integrations._transformers.stops import Stops
from trivium.speculator import Speculator
from trivium.voter import Voter

__all__ = [
    "Cascade",
    "Comparison",
    "Difference",
    "DraftModel",
    "EarlyExit",
    "GenerateOutput",
    "Heads",
    "HostDrafter",
    "LayerSkip",
    "Lookahead",
    "Retrieval",
    "Routed",
    "Seconds",
    "calibrate",
    "compare",
    "generate",
]


class Seconds(NamedTuple):
    """Wall-clock of a call."""

    prefill: float
    decode: float


@dataclass(frozen=True)
class GenerateOutput:
    """What `generate` returns; lists have one entry a request, in the order of the prompts.

    Attributes
    ----------
    sequences : list of list of int
        Prompt and new tokens, without padding.
    new_tokens : list of list of int
        New tokens, up to and including the one that ended the request.
    texts : list of str or None
        New tokens as text, without special tokens; cut before the stop string where one ended the
        request. None without a tokenizer.
    logprobs : list of list of float
        Natural log-probability of each new token under the processed law.
    finish_reasons : list of str
        ``"eos"``, ``"stop"``, ``"length"`` or ``"interrupted"``.
    num_target_calls : int
        Forward passes after prefill.
    num_tokens : int
        New tokens of all requests.
    tokens_per_call : float
        New tokens a request and forward pass that it took part in; 1 without drafts.
    seconds : Seconds
        Wall-clock of prefill and of decoding.
    stats : dict
        Drafted and accepted nodes of this call, and by source how often it was right.
    logit_rows : list of float32 array, shape (new tokens, vocab), or None
        The logits that chose each token, before the processed law; with ``record_logits=True``.
    votes : list of trivium.voter.Result, or None
        One a prompt, under a voter. The other lists then hold the trace that stands for the winner
        (trace 0 where nobody wins).
    traces : list of Trace, or None
        All traces of a vote: ``prompt``, ``trace``, ``tokens``, ``text``, ``logprobs`` and
        ``finish_reason``, which is ``"cancelled"`` where the vote was decided before.
    """

    sequences: list[list[int]]
    new_tokens: list[list[int]]
    texts: list[str] | None
    logprobs: list[list[float]]
    finish_reasons: list[str]
    num_target_calls: int
    num_tokens: int
    tokens_per_call: float
    seconds: Seconds
    stats: dict[str, Any]
    logit_rows: list[Any] | None = None
    votes: list[Any] | None = None
    traces: list[Any] | None = None


def _import_hosts() -> Any:
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as e:
        raise MissingExtraError('pip install "trivium[transformers]"') from e
    from trivium.integrations._transformers import host

    return host


def generate(
    model: Any,
    input_ids: Any,
    *,
    speculator: Speculator | None = None,
    draft_model: DraftModel
    | Heads
    | EarlyExit
    | LayerSkip
    | HostDrafter
    | Lookahead
    | Routed
    | Cascade
    | None = None,
    constraint: Any | None = None,
    tokenizer: Any | None = None,
    attention_mask: Any | None = None,
    max_new_tokens: int | Sequence[int] = 128,
    temperature: float | Sequence[float] = 1.0,
    top_k: int | Sequence[int] = 0,
    top_p: float | Sequence[float] = 1.0,
    min_p: float | Sequence[float] = 0.0,
    seed: int | Sequence[int] = 0,
    branch: int | Sequence[int] = 0,
    draw: str = "cdf",
    eos_token_id: int | Iterable[int] | None = None,
    stop_strings: str | Iterable[str] | None = None,
    token_callback: Callable[[int, list[int]], object] | None = None,
    group: str | Sequence[str] | None = None,
    tenant: str | Sequence[str] | None = None,
    keep: bool = True,
    on_interrupt: str = "raise",
    record_logits: bool = False,
    prefill_chunk: int = 512,
    voter: Any | None = None,
    max_traces: int = 32,
) -> GenerateOutput:
    """Continue prompts, with one forward pass for several tokens where drafts agree.

    Parameters
    ----------
    model : transformers causal language model
        In evaluation mode, over a `DynamicCache`. Trees need full attention in every layer and
        eager or sdpa attention; other models verify chains one request at a time, with a warning.
    input_ids : int array, shape (n,) or (requests, n), or list of lists of int
        Prompts of any lengths, or the mapping that a tokenizer returns.
    speculator : Speculator, optional
        Drafts; reused across calls, its stores warm up. None is the same loop without drafts.
    draft_model : DraftModel or another of these settings, optional
        Who drafts beside the stores: `DraftModel`, `Heads`, `EarlyExit`, `LayerSkip`,
        `HostDrafter`, `Lookahead`, `Routed`; not together with a voter. `Cascade` changes the
        target.
    constraint : GrammarMask, matcher, or list of matchers, optional
        Language of the new text: a `GrammarMask` (a matcher a request is made), one matcher (forked
        for each request), or one a request. The end of sequence is then allowed exactly where the
        text is complete.
    tokenizer : transformers tokenizer or Vocabulary, optional
        For `texts` (a tokenizer) and `stop_strings` (either).
    attention_mask : int array like `input_ids`, optional
        0 marks padding, on either side.
    max_new_tokens : int, or one a request
        Bound on new tokens; prompt and new tokens also stay within the model's
        ``max_position_embeddings``. Reason ``"length"``.
    temperature, top_k, top_p, min_p : number, or one a request
        The processed law, in this order; temperature 0 is greedy.
    seed : int, or one a request
        Seed of the noise.
    branch : int, or one a request
        Trace number: request ``i`` of a call takes ``branch + i``, so that equal prompts give
        different samples. A list is taken as it stands.
    draw : "cdf" or "race"
        How laws become tokens.
    eos_token_id : int or list of int, optional
        Ids that end a request, kept in its tokens; default those of the model's generation
        configuration. An empty list ends at none.
    stop_strings : str or list of str, optional
        A request ends with the token that completes one of them.
    token_callback : callable, optional
        Called as ``token_callback(request, new_ids)`` after each step, requests in order.
    group, tenant : str, or one a request, optional
        Who shares drafts; see `Speculator.start`.
    keep : bool
        Whether the speculator's stores learn the text of finished requests.
    on_interrupt : "raise" or "return"
        What a `KeyboardInterrupt` does: propagate, or return what there is with reason
        ``"interrupted"``. Stores learn nothing from unfinished requests.
    record_logits : bool
        Fill `GenerateOutput.logit_rows`.
    prefill_chunk : int
        Prompt tokens of a request in one forward pass.
    voter : Voter, optional
        Each prompt becomes a question, opened and forgotten by this call; the voter launches its
        traces, cancels those that cannot matter any more, and ends it. Trace `t` of prompt `i`
        draws with ``branch + t`` and with ``seed + i`` (a list of seeds is taken as it stands), so
        traces are independent and a vote does not depend on the batch it ran in. The traces of a
        prompt are one draft group, whose continuations the tally weighs. Needs `tokenizer`. A
        `trivium.voting.AnswerGrammar` as `constraint` marks the answers; otherwise the voter's key
        finds them in the text. `group` and `branch` as lists are refused.
    max_traces : int
        Traces that run at once under a voter; a bound on memory.

    Returns
    -------
    GenerateOutput

    Raises
    ------
    InputError
        Malformed prompts or parameters, a speculator of another width, NaN logits (the message
        names the row).
    TokenError
        A prompt id outside the logits.
    UnsupportedError
        A model that is no causal language model over a `DynamicCache`, or has recurrent layers.
    MissingExtraError
        torch or transformers is not installed.

    Examples
    --------
    >>> from trivium import Speculator
    >>> from trivium.integrations.transformers import generate
    >>> spec = Speculator(model.config.vocab_size)  # doctest: +SKIP
    >>> out = generate(model, [[1, 2, 3]], speculator=spec, temperature=0)  # doctest: +SKIP
    """
    hosts = _import_hosts()
    import torch

    from trivium.integrations._transformers import loop
    from trivium.integrations._transformers.votes import Votes
    from trivium.voting.answers import AnswerGrammar

    if on_interrupt not in ("raise", "return"):
        raise InputError(f'on_interrupt: {on_interrupt!r} is neither "raise" nor "return"')
    if prefill_chunk < 1:
        raise InputError(f"prefill_chunk: {prefill_chunk} is below 1")
    vocab_size = hosts.logits_width(model)
    prompts = prompts_of(input_ids, attention_mask, vocab_size)
    n = len(prompts)
    if speculator is None:
        speculator = Speculator(vocab_size, sources=[], max_nodes=1, policy="full")
    elif speculator.vocab_size != vocab_size:
        raise InputError(
            f"speculator: is {speculator.vocab_size} wide, the model's logits {vocab_size}"
        )
    if eos_token_id is None:
        eos_token_id = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    eos = end_ids(eos_token_id) | _ends_of(getattr(constraint, "mask", constraint))
    stops = Stops(stop_strings, tokenizer)
    limits = _limits(model, prompts, column("max_new_tokens", max_new_tokens, n))
    laws = list(
        zip(
            *(
                column(name, value, n)
                for name, value in (
                    ("temperature", temperature),
                    ("top_k", top_k),
                    ("top_p", top_p),
                    ("min_p", min_p),
                )
            ),
            strict=True,
        )
    )
    answers = constraint if isinstance(constraint, AnswerGrammar) else None
    constraint = constraint if answers is None else answers.mask
    seeds = column("seed", seed, n)
    branches = column("branch", branch, n)
    if not isinstance(branch, Sequence) and not hasattr(branch, "tolist"):
        branches = [branch + i for i in range(n)]
    groups, tenants = column("group", group, n), column("tenant", tenant, n)
    matchers = _matchers(constraint, n)
    drafts = bool(speculator.config["sources"])
    host = hosts.host_for(model, drafts=drafts, chunk=prefill_chunk)
    before = speculator.stats()
    rows: list[Any] = []
    totals = loop.Totals()

    def begin(
        index: int, i: int, group: str | None, branch: int, written: Sequence[int] = ()
    ) -> Any:
        """Start request `index`, a continuation of prompt `i` and of what is `written` already."""
        matcher = matchers[i]
        if written and matcher is not None:
            matcher = matcher.fork()
            matcher.commit(list(written))
        request = speculator.start(
            [*prompts[i], *written],
            group=group,
            tenant=tenants[i],
            seed=seeds[i],
            branch=branch,
            draw=draw,
            constraint=matcher,
        )
        return loop.Row(index, request, prompts[i], limits[i], laws[i], eos, list(written))

    drafting = None
    if draft_model is not None:
        from trivium.integrations._transformers.drafter import Opening

        if voter is not None:
            raise InputError("draft_model: does not follow the traces of a vote yet")
        drafting = draft_model.open(
            Opening(
                model=model,
                host=host,
                verifier=speculator.verifier,
                prompts=prompts,
                vocab_size=vocab_size,
                chunk=prefill_chunk,
                noise=list(zip(seeds, branches, strict=True)),
                draw=draw,
                tokenizer=tokenizer,
            )
        )
    votes = None
    if voter is not None:
        if not isinstance(voter, Voter):
            raise InputError(f"voter: {type(voter).__name__} is no trivium.Voter")
        if tokenizer is None:
            raise InputError("voter: needs tokenizer=, which says what the traces answer")
        if not isinstance(branch, int) or not (group is None or isinstance(group, str)):
            raise InputError("voter: branch and group of a vote belong to its traces, give no list")
        if isinstance(seed, int):
            seeds = [(seed + i) & (2**64 - 1) for i in range(n)]
        votes = Votes(
            voter,
            n,
            start=lambda index, i, name, t, written: begin(
                index, i, group or name, branch + t, written
            ),
            text_of=lambda row: (_texts(tokenizer, stops, [row]) or [""])[0],
            answers=answers,
            max_rows=max_traces,
            drafts=drafts,
        )
        rows = votes.rows
    try:
        if votes is None:
            rows += [begin(i, i, groups[i], branches[i]) for i in range(n)]
            first = rows
        else:
            first = votes.first()
        start = time.perf_counter()
        prefilled = start
        try:
            with torch.inference_mode():
                host.prefill([row.prompt for row in first])
                prefilled = time.perf_counter()
                loop.decode(
                    host,
                    speculator,
                    first,
                    stops=stops,
                    callback=token_callback,
                    keep=keep,
                    record=record_logits,
                    totals=totals,
                    control=votes,
                    drafting=drafting,
                )
        except KeyboardInterrupt:
            if on_interrupt == "raise":
                raise
            for row in rows:
                row.reason = row.reason or "interrupted"
        end = time.perf_counter()
    finally:
        for row in rows:
            row.request.finish(keep=False)  # harmless where the loop has finished it
        results = None if votes is None else votes.results()
        if votes is not None:
            votes.forget()
    count = sum(len(row.tokens) for row in rows)
    traces = None if votes is None else votes.traces()
    if votes is not None and results is not None:
        rows = votes.winners(results)
    new = [row.tokens for row in rows]
    return GenerateOutput(
        sequences=[row.prompt + row.tokens for row in rows],
        new_tokens=new,
        texts=_texts(tokenizer, stops, rows),
        logprobs=[row.logprobs for row in rows],
        finish_reasons=[row.reason for row in rows],
        num_target_calls=host.calls,
        num_tokens=count,
        tokens_per_call=count / totals.steps if totals.steps else 0.0,
        seconds=Seconds(prefilled - start, end - prefilled),
        stats=_difference(before, speculator.stats())
        | ({} if drafting is None else drafting.report()),
        logit_rows=[
            np.stack(row.logit_rows) if row.logit_rows else np.zeros((0, vocab_size), np.float32)
            for row in rows
        ]
        if record_logits
        else None,
        votes=results,
        traces=traces,
    )


def _limits(model: Any, prompts: list[list[int]], wanted: list[Any]) -> list[int]:
    """Bound the new tokens of each request within the model's positions."""
    most = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    limits = []
    for i, (prompt, n) in enumerate(zip(prompts, wanted, strict=True)):
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise InputError(f"max_new_tokens: must be an integer of at least 1, got {n!r}")
        room = n if not most or most < 0 else most - len(prompt)
        if room < 1:
            raise InputError(
                f"input_ids: prompt {i} has {len(prompt)} tokens, the model has {most} positions"
            )
        limits.append(min(n, room))
    return limits


def _matchers(constraint: Any, n: int) -> list[Any]:
    """One matcher a request, or None."""
    if constraint is None:
        return [None] * n
    if isinstance(constraint, (list, tuple)):
        if len(constraint) != n:
            raise InputError(f"constraint: {len(constraint)} matchers for {n} requests")
        return [_matchers(c, 1)[0] for c in constraint]
    make = getattr(constraint, "matcher", None)
    return [make() if callable(make) else constraint for _ in range(n)]


def _ends_of(constraint: Any) -> frozenset[int]:
    """Collect the ends of the grammars' vocabularies, after which a grammar allows nothing."""
    several = constraint if isinstance(constraint, (list, tuple)) else [constraint]
    return frozenset(t for c in several for t in getattr(getattr(c, "vocab", None), "eos", ()))


def _texts(tokenizer: Any, stops: Stops, rows: list[Any]) -> list[str] | None:
    from trivium.vocabulary import Vocabulary

    if tokenizer is None:
        return None
    texts = []
    for row in rows:
        if isinstance(tokenizer, Vocabulary):
            known = [t for t in row.tokens if t < len(tokenizer)]
            text = tokenizer.decode(known).decode("utf-8", "replace")
        else:
            text = tokenizer.decode(row.tokens, skip_special_tokens=True)
        texts.append(stops.cut(text) if row.reason == "stop" else text)
    return texts


def _difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Counters of this call."""
    out: dict[str, Any] = {}
    for name, value in after.items():
        if isinstance(value, dict):
            out[name] = _difference(before.get(name, {}), value)
        elif isinstance(value, list):  # bins
            old = before.get(name, [0] * len(value))
            out[name] = [x - y for x, y in zip(value, old, strict=True)]
        elif name == "error":  # of the whole record, no counter
            out[name] = value
        else:
            out[name] = value - before.get(name, 0)
    return out


def calibrate(
    model: Any,
    speculator: Speculator,
    *,
    sizes: Iterable[int] = (1, 2, 4, 8, 16, 32),
    repeats: int = 3,
    context: int = 64,
    prefill_chunk: int = 512,
) -> dict[int, float]:
    """Time forward passes over trees of several sizes and tell the speculator.

    `generate` learns the same from its first steps; calling this first spares it from trying sizes
    that do not pay. The text never depends on it.

    Parameters
    ----------
    model : transformers causal language model
        The model that `generate` will run.
    speculator : Speculator
        Whose policy learns the times; its stores do not change.
    sizes : iterable of int
        Nodes of a tree, node 0 counted.
    repeats : int
        Passes of each size, in turn; the fastest counts, as what slows one down is not the size.
    context : int
        Tokens in the cache.
    prefill_chunk : int
        As in `generate`.

    Returns
    -------
    dict of int to float
        Seconds of the fastest forward pass by size.
    """
    hosts = _import_hosts()
    import torch

    from trivium.speculator import TreeBatch

    sizes = sorted(set(sizes))
    vocab_size = hosts.logits_width(model)
    if speculator.vocab_size != vocab_size:
        raise InputError(
            f"speculator: is {speculator.vocab_size} wide, the model's logits {vocab_size}"
        )
    if not sizes or sizes[0] < 1 or repeats < 1 or context < 2:
        raise InputError("sizes, repeats and context must be positive")
    most = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if most:
        context = max(2, min(context, most - sizes[-1]))
    prompt = np.random.default_rng(0).integers(0, vocab_size, context).tolist()
    probe = Speculator(vocab_size, sources=[], policy="full")
    request = probe.start(prompt)
    host = hosts.host_for(model, drafts=False, chunk=prefill_chunk)
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    with torch.inference_mode():
        host.prefill([prompt])
        for turn in range(repeats + 1):
            for size in sizes:
                batch = TreeBatch.from_arrays(
                    np.resize(prompt, size),
                    np.arange(-1, size - 1),
                    [0, size],
                    requests=[request],
                )
                start = time.perf_counter()
                host.forward(batch, [context + size])[:1].cpu()  # a device's work is waited for
                if turn:  # the first turn warms up
                    seconds[size].append(time.perf_counter() - start)
                host.keep(np.zeros(0, np.int64), np.zeros(2, np.int64), [0])
    fastest = {size: min(times) for size, times in seconds.items()}
    for size, time_of_size in fastest.items():
        speculator.observe_forward(size, time_of_size)
    return fastest


# ---- comparing the two loops --------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """The first place where two runs of a request part.

    Attributes
    ----------
    request : int
        The request.
    position : int
        Index of the new token.
    tokens : tuple of int or None
        The plain loop's token and the speculative one's; None where a run has ended.
    rows : tuple of float32 array, shape (vocab,), or None
        The logits that chose them.
    max_abs_diff : float
        Between the two rows.
    kind : "host_rounding" or "bug"
        ``"host_rounding"`` where the rows differ by no more than rounding of the model's dtype and
        each row, drawn from with the request's noise, gives its token: the model computed other
        logits for the same text, and both loops were faithful to theirs.
    """

    request: int
    position: int
    tokens: tuple[int | None, int | None]
    rows: tuple[Any, Any]
    max_abs_diff: float
    kind: str


@dataclass(frozen=True)
class Comparison:
    """Both runs and where they part.

    Attributes
    ----------
    identical : bool
        Whether every request has the same tokens and the same end.
    verdict : "identical", "host_rounding" or "bug"
        The worst of the differences.
    differences : list of Difference
        At most one a request.
    plain, speculative : GenerateOutput
        The runs.
    """

    identical: bool
    verdict: str
    differences: list[Difference]
    plain: GenerateOutput
    speculative: GenerateOutput


def compare(model: Any, input_ids: Any, *, speculator: Speculator, **options: Any) -> Comparison:
    """Run the plain loop and the speculative one, and say why they differ if they do.

    Parameters
    ----------
    model, input_ids, speculator
        As in `generate`.
    **options
        Other arguments of `generate`.

    Returns
    -------
    Comparison
    """
    options["record_logits"] = True
    plain = generate(model, input_ids, speculator=None, **options)
    fast = generate(model, input_ids, speculator=speculator, **options)
    n = len(plain.sequences)
    differences = []
    for i in range(n):
        a, b = plain.new_tokens[i], fast.new_tokens[i]
        if a == b and plain.finish_reasons[i] == fast.finish_reasons[i]:
            continue
        at = next(
            (j for j, (x, y) in enumerate(zip(a, b, strict=False)) if x != y),
            min(len(a), len(b)),
        )
        differences.append(_classify(model, plain, fast, i, at, options))
    kinds = {d.kind for d in differences}
    verdict = "bug" if "bug" in kinds else "host_rounding" if kinds else "identical"
    return Comparison(not differences, verdict, differences, plain, fast)


def _classify(
    model: Any,
    plain: GenerateOutput,
    fast: GenerateOutput,
    i: int,
    at: int,
    options: dict[str, Any],
) -> Difference:
    assert plain.logit_rows is not None
    assert fast.logit_rows is not None
    a, b = plain.new_tokens[i], fast.new_tokens[i]
    if at >= min(len(a), len(b)):
        # One run goes on where the other ended after the same tokens: no logits excuse that.
        tokens = (a[at] if at < len(a) else None, b[at] if at < len(b) else None)
        return Difference(i, at, tokens, (None, None), float("nan"), "bug")
    rows = (plain.logit_rows[i][at], fast.logit_rows[i][at])
    gap = float(np.abs(rows[0] - rows[1]).max())
    prefix = plain.sequences[i][: len(plain.sequences[i]) - len(a)]
    redrawn = [_redraw(row, prefix, a[:at], i, len(plain.sequences), options) for row in rows]
    faithful = redrawn == [a[at], b[at]]
    kind = "host_rounding" if faithful and gap <= _rounding(model, rows) else "bug"
    return Difference(i, at, (a[at], b[at]), rows, gap, kind)


def _redraw(
    row: Any, prompt: list[int], new: list[int], i: int, n: int, options: dict[str, Any]
) -> int:
    """Draw from a row under the noise of request `i`."""
    spec = Speculator(len(row), sources=[], policy="full")
    branch = options.get("branch", 0)
    scalar = not isinstance(branch, Sequence) and not hasattr(branch, "tolist")
    request = spec.start(
        prompt,
        seed=column("seed", options.get("seed", 0), n)[i],
        branch=branch + i if scalar else branch[i],
        draw=options.get("draw", "cdf"),
        constraint=_matchers(options.get("constraint"), n)[i],
    )
    request.commit(np.array(new, np.int32))
    defaults = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    law = {k: column(k, options.get(k, v), n)[i] for k, v in defaults.items()}
    out = spec.verify(spec.propose([request]), logits=np.ascontiguousarray(row[None]), **law)
    return int(out.tokens[0])


def _rounding(model: Any, rows: tuple[Any, Any]) -> float:
    """Largest difference between two rows that rounding explains."""
    import torch

    largest = max(1.0, *(float(np.abs(row[np.isfinite(row)]).max(initial=0)) for row in rows))
    # Rows are recorded in float32; many layers of half precision lose fewer of their few digits.
    factor = {torch.float64: 0.0, torch.float32: 64.0}.get(model.dtype, 16.0)
    eps = float(torch.finfo(model.dtype).eps)
    return largest * max(factor * eps, 2 * float(torch.finfo(torch.float32).eps))
