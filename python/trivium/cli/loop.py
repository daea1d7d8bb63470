"""The host loop as the verbs use it: one model, one law, drafts or none, texts in and out."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trivium.errors import StateError
from trivium.integrations import transformers as adapter
from trivium.speculator import Speculator
from trivium.vocabulary import Vocabulary
from trivium.voter import Launch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trivium.cli.models import Loaded
    from trivium.grammar import GrammarMask
    from trivium.voter import Question, Voter

__all__ = ["Compared", "Loop", "Settings", "Stream", "describe", "vocabulary", "vote", "wall"]

_ROWS = 32
"""Traces of one batch of a vote; a bound on memory."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The processed law, the seed and the ends of a run."""

    max_new_tokens: int = 128
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    stop_strings: tuple[str, ...] = ()


def vocabulary(loaded: Loaded) -> Vocabulary:
    """Token bytes of a model's tokenizer, at the width of the model's logits."""
    return Vocabulary.from_tokenizer(loaded.tokenizer, num_rows=_width(loaded.model))


def wall(made: adapter.GenerateOutput) -> float:
    """Wall-clock seconds of a run, prefill and decoding."""
    return sum(made.seconds)


def describe(made: adapter.GenerateOutput) -> dict[str, Any]:
    """Return what a JSON result says about a run."""
    return {
        "texts": made.texts,
        "finish_reasons": made.finish_reasons,
        "num_tokens": made.num_tokens,
        "num_target_calls": made.num_target_calls,
        "tokens_per_call": made.tokens_per_call,
        "seconds": made.seconds._asdict(),
        "stats": made.stats,
    }


def _width(model: Any) -> int:
    return int(model.get_output_embeddings().weight.shape[0])


@dataclass(frozen=True, slots=True)
class Compared:
    """A speculative run against the plain loop.

    Attributes
    ----------
    identical : bool
        Whether tokens and ends are the same.
    differences : list of trivium.integrations.transformers.Difference
        Where runs part, each judged ``"host_rounding"`` or ``"bug"``.
    tokens_per_call : float
        Of the speculative runs.
    wall_ratio : float
        Median time of the plain loop over that of the speculative one.
    calls, plain_calls : int
        Forward passes after prefill, of all speculative and of all plain runs.
    forced : (int, int) or None
        Of the drafts that spell text which the constraint leaves no choice about: how many were
        reached, and accepted. None without such drafts.
    """

    identical: bool
    differences: list[adapter.Difference]
    tokens_per_call: float
    wall_ratio: float
    calls: int = 0
    plain_calls: int = 0
    forced: tuple[int, int] | None = None

    @property
    def is_bug(self) -> bool:
        """Whether some difference is a defect."""
        return any(d.kind == "bug" for d in self.differences)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {
            "identical": self.identical,
            "tokens_per_call": self.tokens_per_call,
            "wall_ratio": self.wall_ratio,
            "target_calls": self.calls,
            "plain_target_calls": self.plain_calls,
            "forced_drafts": None if self.forced is None else list(self.forced),
            "host_rounding": sum(d.kind == "host_rounding" for d in self.differences),
            "bugs": sum(d.kind == "bug" for d in self.differences),
            "differences": [difference_dict(d) for d in self.differences],
        }


def difference_dict(difference: adapter.Difference, top: int = 4) -> dict[str, Any]:
    """Where two runs part, with the best tokens of the two rows of logits."""
    rows = []
    for row in difference.rows:
        best = [] if row is None else row.argsort()[::-1][:top].tolist()
        rows.append([[t, float(row[t])] for t in best])
    gap = difference.max_abs_diff
    return {
        "position": difference.position,
        "tokens": list(difference.tokens),
        "kind": difference.kind,
        "max_abs_diff": gap if gap == gap else None,
        "rows": dict(zip(("plain", "speculative"), rows, strict=True)),
    }


class Loop:
    """Runs prompts through `trivium.integrations.transformers.generate`.

    Parameters
    ----------
    loaded : Loaded
        Model and tokenizer.
    settings : Settings
        Law, seed and ends.
    sources : "auto", list of str or None
        Draft sources; None drafts nothing.
    """

    def __init__(
        self, loaded: Loaded, settings: Settings, *, sources: str | list[str] | None = "auto"
    ) -> None:
        self.loaded = loaded
        self.settings = settings
        self.sources = sources
        self.constraint: GrammarMask | None = None
        self.spec = self.speculator()

    def speculator(self) -> Speculator | None:
        """Make a speculator that has seen nothing."""
        if self.sources is None:
            return None
        return Speculator(_width(self.loaded.model), sources=self.sources, seed=self.settings.seed)

    def fresh(self) -> Speculator:
        """Make a speculator that has seen nothing, where there are sources."""
        made = self.speculator()
        if made is None:
            raise StateError("there are no draft sources")
        return made

    def ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts."""
        tokenizer = self.loaded.tokenizer
        rows = [tokenizer(text)["input_ids"] for text in prompts]
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else 0
        return [row or [start] for row in rows]

    def options(self, **more: Any) -> dict[str, Any]:
        """Keyword arguments of `generate`."""
        options = asdict(self.settings)
        options["stop_strings"] = list(self.settings.stop_strings) or None
        return options | {
            "constraint": self.constraint,
            "tokenizer": self.loaded.tokenizer,
            **more,
        }

    def run(
        self,
        prompts: Sequence[str],
        *,
        speculator: Speculator | None = None,
        **options: Any,
    ) -> adapter.GenerateOutput:
        """Continue prompts; the speculator is this object's where none is given.

        With ``on_interrupt="return"`` among the options an interrupt is told by the finish reason.
        """
        return adapter.generate(
            self.loaded.model,
            self.ids(prompts),
            speculator=self.spec if speculator is None else speculator,
            **self.options(**options),
        )

    def pair(
        self, prompt: str, speculator: Speculator, *, plain_first: bool = True
    ) -> tuple[adapter.GenerateOutput, adapter.GenerateOutput, adapter.Difference | None]:
        """Continue a prompt by the plain loop and by the speculative one.

        Returns
        -------
        plain, speculative : GenerateOutput
            Both runs.
        difference : Difference or None
            Where they part.
        """
        ids = self.ids([prompt])
        options = self.options(record_logits=True)
        runs = {}
        for who in (None, speculator) if plain_first else (speculator, None):
            runs[who is None] = adapter.generate(self.loaded.model, ids, speculator=who, **options)
        plain, fast = runs[True], runs[False]
        a, b = plain.new_tokens[0], fast.new_tokens[0]
        if a == b and plain.finish_reasons == fast.finish_reasons:
            return plain, fast, None
        parts = [i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y]
        at = parts[0] if parts else min(len(a), len(b))
        judged = adapter._classify(self.loaded.model, plain, fast, 0, at, options)
        return plain, fast, judged

    def compare(self, prompt: str, *, repeats: int = 3) -> Compared:
        """Compare both loops on a prompt, each run with a speculator that has seen nothing."""
        times: tuple[list[float], list[float]] = [], []
        differences, tokens, calls, plain_calls = [], 0, 0, 0
        forced = np.zeros(2, int)
        for i in range(repeats):
            plain, fast, difference = self.pair(prompt, self.fresh(), plain_first=i % 2 == 0)
            times[0].append(wall(plain))
            times[1].append(wall(fast))
            tokens, calls = tokens + fast.num_tokens, calls + fast.num_target_calls
            plain_calls += plain.num_target_calls
            counts = fast.stats["sources"].get("constraint", {"tried": 0, "accepted": 0})
            forced += [counts["tried"], counts["accepted"]]
            differences += [difference] if difference else []
        ratio = statistics.median(times[0]) / statistics.median(times[1])
        drafts = (int(forced[0]), int(forced[1])) if forced[0] else None
        return Compared(
            not differences, differences, tokens / calls, ratio, calls, plain_calls, drafts
        )


class Stream:
    """Prints the text of one request while it grows.

    Held back are bytes of an unfinished character, and what may turn out to begin a stop string.
    """

    def __init__(self, loop: Loop, write: Callable[[str], None]) -> None:
        self._tokenizer = loop.loaded.tokenizer
        self._stops = loop.settings.stop_strings
        self._hold = max(map(len, self._stops), default=1) - 1
        self._write = write
        self._ids: list[int] = []
        self._said = ""

    def feed(self, _: int, new: list[int]) -> None:
        """Take new tokens; the callback of `generate`."""
        self._ids += new
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True).rstrip("\ufffd")
        if not any(stop in text for stop in self._stops):
            self._say(text[: len(text) - self._hold])

    def close(self, text: str) -> None:
        """Print what is missing of the final text."""
        self._say(text)

    def _say(self, text: str) -> None:
        if len(text) > len(self._said) and text.startswith(self._said):
            self._write(text[len(self._said) :])
            self._said = text


def vote(
    loop: Loop,
    voter: Voter,
    prompts: Mapping[Question, str],
    *,
    seen: Callable[[Question, int, str], object] | None = None,
    decided: Callable[[Question], object] | None = None,
) -> int:
    """Sample traces in batches until every question is decided.

    Parameters
    ----------
    loop : Loop
        Draws the samples. Trace number is branch; questions differ in their seed.
    voter : Voter
        With these questions opened and nothing launched.
    prompts : mapping of Question to str
        Their prompts.
    seen : callable, optional
        Told of each finished trace and its text.
    decided : callable, optional
        Told of each decided question.

    Returns
    -------
    int
        Number of traces that every question launched before any was heard.
    """
    actions = voter.next()
    first = min(a.n for a in actions if isinstance(a, Launch))
    while actions:
        todo = [(a.q, t) for a in actions if isinstance(a, Launch) for t in a.traces]
        actions = []
        for at in range(0, len(todo), _ROWS):
            rows = todo[at : at + _ROWS]
            made = loop.run(
                [prompts[q] for q, _ in rows],
                seed=[loop.settings.seed + int(q) for q, _ in rows],
                branch=[t for _, t in rows],
                group=[q.id for q, _ in rows],
            )
            texts = made.texts or []
            for i, (q, t) in enumerate(rows):
                if seen is not None:
                    seen(q, t, texts[i])
                actions += voter.finish(
                    q,
                    t,
                    text=texts[i],
                    reason="length" if made.finish_reasons[i] == "length" else "stop",
                    sum_logprob=sum(made.logprobs[i]),
                    num_tokens=len(made.new_tokens[i]),
                )
                if decided is not None and voter.result(q).done:
                    decided(q)
    return first
