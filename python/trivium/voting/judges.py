"""Selection by a judge model: universal and fine-grained self-consistency.

The library plans the calls and reads what comes back; the caller makes them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trivium.errors import InputError
from trivium.voting.freeform import similarity_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["UniversalChoice", "filter_candidates", "group_candidates", "universal_choice"]


@dataclass(frozen=True, slots=True)
class UniversalChoice:
    """What `universal_choice` chose.

    Attributes
    ----------
    index : int
        The candidate.
    calls : int
        Calls of the judge.
    fallbacks : int
        Groups that no judgement settled and similarity decided.
    """

    index: int
    calls: int
    fallbacks: int


def universal_choice(
    texts: Sequence[str],
    judge: Callable[[list[str]], int | str | None],
    *,
    group: int = 0,
    balanced: bool = False,
    retry: bool = True,
) -> UniversalChoice:
    """Let a judge name the candidate that agrees best with the others.

    Chen et al., "Universal Self-Consistency for Large Language Model Generation".

    Parameters
    ----------
    texts : sequence of str
        Candidates.
    judge : callable
        Takes a list of texts, shows it to a model numbered from 0, and returns the number it named:
        an integer, or its answer, whose last integer counts. Anything else, or a number outside the
        list, is asked for once more, then the most similar candidate stands in.
    group : int
        Candidates a call; 0 for all of them. Winners of groups meet again: ``ceil((n - 1) /
        (group - 1))`` calls.
    balanced : bool
        Ask in both orders; where the two judgements differ, the candidate that is more similar to
        the others wins. Twice the calls, and no preference for early candidates.
    retry : bool
        Whether to ask again after an answer that names nothing.

    Examples
    --------
    >>> universal_choice(["7", "about 7", "9"], lambda shown: shown.index("7")).index
    0
    """
    if not texts:
        raise InputError("texts: an empty list has no best text")
    if group == 1 or group < 0:
        raise InputError(f"group: {group} candidates are no choice")
    scores = similarity_scores([text.split() for text in texts])
    calls = fallbacks = 0

    def ask(members: list[int]) -> int | None:
        nonlocal calls
        for _ in range(2 if retry else 1):
            calls += 1
            place = _number(judge([texts[i] for i in members]), len(members))
            if place is not None:
                return members[place]
        return None

    def decide(members: list[int]) -> int:
        nonlocal fallbacks
        if len(members) == 1:
            return members[0]
        named = [ask(members)]
        if balanced:
            named.append(ask(members[::-1]))
        # Equal texts are one candidate, whichever of them was named.
        known = {texts[i]: i for i in sorted((i for i in named if i is not None), reverse=True)}
        if not known:
            fallbacks += 1
            return max(members, key=lambda i: (scores[i], -i))
        return max(known.values(), key=lambda i: (scores[i], -i))

    left = list(range(len(texts)))
    size = group or len(left)
    while len(left) > 1:
        left = [decide(left[:size]), *left[size:]]
    return UniversalChoice(left[0], calls, fallbacks)


def _number(said: int | str | None, n: int) -> int | None:
    if isinstance(said, str):
        found = re.findall(r"(?<![\w.-])\d{1,9}(?![\w]|\.\d)", said)
        said = int(found[-1]) if found else None
    if isinstance(said, bool) or not isinstance(said, int | np.integer):
        return None
    return int(said) if 0 <= said < n else None


def filter_candidates(texts: Sequence[str], *, fraction: float = 0.5) -> list[int]:
    """Candidates most similar to the others, a fraction of them, in their order.

    First step of fine-grained self-consistency (Wang et al.); fraction 1 keeps all.

    Examples
    --------
    >>> filter_candidates(["a b c", "a b d", "x y z"], fraction=0.6)
    [0, 1]
    """
    if not 0 < fraction <= 1:
        raise InputError(f"fraction: {fraction} is not in (0, 1]")
    scores = similarity_scores([text.split() for text in texts])
    most = max(1, round(fraction * len(texts)))
    best = sorted(range(len(texts)), key=lambda i: (-scores[i], i))[:most]
    return sorted(best)


def group_candidates(texts: Sequence[str], *, threshold: float = 0.5) -> list[list[int]]:
    """Group candidates greedily by the Jaccard similarity of their words.

    Second step of fine-grained self-consistency: each group is merged by one call of a model. A
    candidate joins the first group whose first member is similar enough.

    Examples
    --------
    >>> group_candidates(["a b c", "a b d", "x y z", "x y"])
    [[0, 1], [2, 3]]
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold: {threshold} is not in [0, 1]")
    words = [set(text.split()) for text in texts]
    groups: list[list[int]] = []
    for i, mine in enumerate(words):
        for members in groups:
            other = words[members[0]]
            union = mine | other
            if not union or len(mine & other) / len(union) >= threshold:
                members.append(i)
                break
        else:
            groups.append([i])
    return groups
