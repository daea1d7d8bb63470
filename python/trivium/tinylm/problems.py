"""Arithmetic word problems with worked solutions, generated from a seed.

A problem is a chain of integer operations dressed as a short story. Its *level* is the number of
operations and the range of the numbers::

    level  steps  operands                     problem
    1      2      2-20, factors 2-5            two short sentences
    2      2-3    2-60, factors 2-9            the bulk of the training stream
    3      3      5-99, factors 2-9            long carries
    4      3-4    10-99, factors 3-9, values up to 999

The split is a property of the text: a problem is held out when the hash of its question falls
into one class of ten. No seed can therefore produce a held-out problem on the training side, and
the training stream needs no list of exclusions.

Every worked solution is a sequence of equations ``a op b = c`` and a closing sentence
``The answer is N.``; `extract_answer` reads that sentence and `check` verifies each equation.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "LEVELS",
    "Problem",
    "check",
    "drill",
    "extract_answer",
    "generate",
    "is_heldout",
    "stream",
]

LEVELS: tuple[int, ...] = (1, 2, 3, 4)
_HELDOUT_CLASSES = 10


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NAMES = _words(
    "Ada Alan Amir Anna Ben Bo Carla Chen Dana David Elena Emma Eva Felix Grace Hana Hugo Ida Ivan "
    "Jack Jane Karim Kate Leo Lina Lucy Marco Maria Max Mia Nina Noah Nora Olga Omar Otto Paul "
    "Petra Priya Rosa Ruth Sam Sara Tara Theo Tom Uma Vera Yuki Zoe"
)
_ITEMS = _words(
    "apples books buttons candles cards coins cookies cups eggs flowers keys lemons letters maps "
    "marbles nails oranges pears pencils pens plates plums ribbons rocks seeds shells stamps "
    "stickers stones tickets tiles toys"
)
_BOXES = _words("bags baskets boxes crates drawers jars packs rows shelves trays")


@dataclass(frozen=True)
class Problem:
    """One word problem with its worked solution.

    Attributes
    ----------
    question : str
        The story, ending in a question mark.
    solution : str
        Equations and the closing sentence, without the leading ``A:``.
    answer : int
        The gold answer.
    level : int
        Difficulty, one of `LEVELS`.
    """

    question: str
    solution: str
    answer: int
    level: int

    @property
    def prompt(self) -> str:
        """Text given to the model: the question and the opening of the answer."""
        return f"Q: {self.question}\nA:"

    @property
    def text(self) -> str:
        """Whole document as it stands in the training stream."""
        return f"{self.prompt} {self.solution}\n"


@dataclass(frozen=True)
class _Range:
    steps: tuple[int, ...]
    low: int
    high: int
    factors: tuple[int, int]
    limit: int


_RANGES: dict[int, _Range] = {
    1: _Range((2,), 2, 20, (2, 5), 120),
    2: _Range((2, 3), 2, 60, (2, 9), 300),
    3: _Range((3,), 5, 99, (2, 9), 600),
    4: _Range((3, 4), 10, 99, (3, 9), 999),
}

# One story step: (sentence, operation symbol, operand).
_Step = tuple[str, str, int]


def _gain(rng: random.Random, r: _Range, who: str, item: str, value: int) -> _Step | None:
    b = rng.randint(r.low, r.high)
    if value + b > r.limit:
        return None
    other = rng.choice(_NAMES)
    sentence = rng.choice(
        (
            f"{who} buys {b} more {item}.",
            f"{who} finds {b} more {item}.",
            f"{other} gives {who} {b} more {item}.",
            f"Then {who} gets {b} {item} from {other}.",
        )
    )
    return sentence, "+", b


def _loss(rng: random.Random, r: _Range, who: str, item: str, value: int) -> _Step | None:
    top = min(r.high, value - 1)
    if top < r.low:
        return None
    b = rng.randint(r.low, top)
    other = rng.choice(_NAMES)
    sentence = rng.choice(
        (
            f"{who} loses {b} {item}.",
            f"{who} gives {b} {item} to {other}.",
            f"{who} sells {b} {item}.",
            f"Then {other} takes {b} of the {item}.",
        )
    )
    return sentence, "-", b


def _times(rng: random.Random, r: _Range, who: str, item: str, value: int) -> _Step | None:
    b = rng.randint(*r.factors)
    if value * b > r.limit:
        return None
    sentence = rng.choice(
        (
            f"A machine turns each of the {item} into {b} {item}.",
            f"Next year {who} has {b} times as many {item}.",
            f"{who} trades each of the {item} for {b} new ones.",
        )
    )
    return sentence, "*", b


def _share(rng: random.Random, r: _Range, who: str, item: str, value: int) -> _Step | None:
    choices = [d for d in range(r.factors[0], r.factors[1] + 1) if value % d == 0 and value > d]
    if not choices:
        return None
    b = rng.choice(choices)
    sentence = rng.choice(
        (
            f"{who} splits the {item} into {b} equal piles and keeps one pile.",
            f"{who} sorts the {item} into {b} equal heaps and sells all but one heap.",
        )
    )
    return sentence, "/", b


_STEPS: tuple[Callable[[random.Random, _Range, str, str, int], _Step | None], ...] = (
    _gain,
    _loss,
    _gain,
    _loss,
    _times,
    _share,
)


def _apply(a: int, op: str, b: int) -> int:
    if op == "+":
        return a + b
    if op == "-":
        return a - b
    if op == "*":
        return a * b
    return a // b


def _opening(rng: random.Random, r: _Range, who: str, item: str) -> tuple[str, int, str | None]:
    """First sentence, the value it sets up and, if it already takes a step, its equation."""
    if rng.random() < 0.4:
        a = rng.randint(*r.factors)
        b = rng.randint(r.low, max(r.low, min(r.high, r.limit // a)))
        box = rng.choice(_BOXES)
        sentence = rng.choice(
            (
                f"{who} has {a} {box} with {b} {item} each.",
                f"There are {a} {box} of {b} {item} on the table of {who}.",
            )
        )
        return sentence, a * b, f"{a} * {b} = {a * b}."
    a = rng.randint(r.low, r.high)
    sentence = rng.choice((f"{who} has {a} {item}.", f"{who} starts with {a} {item}."))
    return sentence, a, None


def _draw(rng: random.Random, level: int) -> Problem | None:
    r = _RANGES[level]
    who, item = rng.choice(_NAMES), rng.choice(_ITEMS)
    num_steps = rng.choice(r.steps)
    first, value, equation = _opening(rng, r, who, item)
    story, work = [first], [] if equation is None else [equation]
    while len(work) < num_steps:
        step = rng.choice(_STEPS)(rng, r, who, item, value)
        if step is None:
            return None
        sentence, op, b = step
        result = _apply(value, op, b)
        story.append(sentence)
        work.append(f"{value} {op} {b} = {result}.")
        value = result
    ask = rng.choice((f"How many {item} are there now?", f"How many {item} are left in the end?"))
    question = " ".join([*story, ask])
    return Problem(question, f"{' '.join(work)} The answer is {value}.", value, level)


def is_heldout(question: str) -> bool:
    """Whether a question belongs to the held-out split.

    Parameters
    ----------
    question : str
        The question as it stands in `Problem.question`.

    Returns
    -------
    bool
        True for about one question in ten, by a hash of the text alone.

    Examples
    --------
    >>> is_heldout("How many?") in (True, False)
    True
    """
    digest = hashlib.sha256(question.encode()).digest()
    return digest[0] % _HELDOUT_CLASSES == 0


def stream(seed: int, split: str = "train", level: int | None = None) -> Iterator[Problem]:
    """Endless problems of one split.

    Parameters
    ----------
    seed : int
        Seed of the generator; equal seeds give equal streams.
    split : {"train", "heldout"}
        Side of the hash split.
    level : int, optional
        One of `LEVELS`; the training mixture of levels when absent.

    Yields
    ------
    Problem
        Problems in the order the generator draws them.

    Raises
    ------
    ValueError
        If `split` or `level` is unknown.
    """
    if split not in ("train", "heldout"):
        msg = f"split must be 'train' or 'heldout', got {split!r}"
        raise ValueError(msg)
    if level is not None and level not in LEVELS:
        msg = f"level must be one of {LEVELS}, got {level!r}"
        raise ValueError(msg)
    rng = random.Random(f"trivium-problems-{seed}")
    wanted = split == "heldout"
    while True:
        drawn = level if level is not None else rng.choices(LEVELS, (4, 4, 2, 1))[0]
        problem = _draw(rng, drawn)
        if problem is not None and is_heldout(problem.question) == wanted:
            yield problem


def drill(rng: random.Random, num: int = 8) -> str:
    """Draw a line of bare equations in the ranges of the problems.

    Parameters
    ----------
    rng : random.Random
        Source of randomness.
    num : int
        Number of equations.

    Returns
    -------
    str
        The equations, ending in a line feed.
    """
    equations: list[str] = []
    while len(equations) < num:
        r = _RANGES[rng.choice(LEVELS)]
        op = rng.choice("+-+-*/")
        b = rng.randint(*r.factors) if op in "*/" else rng.randint(r.low, r.high)
        a = rng.randint(r.low, r.limit // b if op == "*" else r.limit // (1 + (op == "+")))
        if op == "*" and rng.random() < 0.5:
            a, b = b, a
        if op == "/":
            a -= a % b
        if a > b or op in "+*":
            equations.append(f"{a} {op} {b} = {_apply(a, op, b)}.")
    return " ".join(equations) + "\n"


def generate(seed: int, num: int, split: str = "train", level: int | None = None) -> list[Problem]:
    """Draw distinct problems.

    Parameters
    ----------
    seed : int
        Seed of the generator.
    num : int
        Number of problems.
    split : {"train", "heldout"}
        Side of the hash split.
    level : int, optional
        One of `LEVELS`; the training mixture of levels when absent.

    Returns
    -------
    list of Problem
        `num` problems with pairwise different questions.

    Examples
    --------
    >>> [p] = generate(0, 1, split="heldout", level=2)
    >>> check(p.solution) == p.answer
    True
    """
    seen: dict[str, Problem] = {}
    for problem in stream(seed, split, level):
        if len(seen) >= num:
            break
        seen.setdefault(problem.question, problem)
    return list(seen.values())


_ANSWER = re.compile(r"The answer is (-?\d+)\.")
_EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)\.")


def extract_answer(text: str) -> int | None:
    """Read the answer out of a (generated) solution.

    Parameters
    ----------
    text : str
        Text that may contain the closing sentence.

    Returns
    -------
    int or None
        The number of the first closing sentence, None when there is none.

    Examples
    --------
    >>> extract_answer(" 3 + 4 = 7. The answer is 7.")
    7
    """
    found = _ANSWER.search(text)
    return int(found[1]) if found else None


def check(solution: str) -> int | None:
    """Verify a worked solution.

    Parameters
    ----------
    solution : str
        Equations and the closing sentence.

    Returns
    -------
    int or None
        The answer when every equation holds, each continues from the result before it and the
        closing sentence repeats the last result; None otherwise.

    Examples
    --------
    >>> check("3 + 4 = 7. 7 * 2 = 14. The answer is 14.")
    14
    >>> check("3 + 4 = 8. The answer is 8.") is None
    True
    """
    value: int | None = None
    for a, op, b, c in _EQUATION.findall(solution):
        if value is not None and int(a) != value:
            return None
        if op == "/" and (int(b) == 0 or int(a) % int(b)):
            return None
        value = int(c)
        if _apply(int(a), op, int(b)) != value:
            return None
    return value if value is not None and value == extract_answer(solution) else None
