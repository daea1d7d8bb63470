"""The law behind ``stop="best"``: fits it, checks it on held-out folds, writes the shipped table.

    python benches/stop_best.py DIR                  folds' table: samples and agreement by price
    python benches/stop_best.py DIR --other-sets     the same, each set with the types of the others
    python benches/stop_best.py DIR --write PATH     fits all of DIR and writes the types to PATH

DIR holds ``votes-v1`` files. Nothing but votes is read: no labels, sources, lengths or texts. Folds
are by question (``crc32(q) % folds``); the types of a fold are fitted to the other folds, and a run
holds the questions of the fold alone, in the order of the file. This is also the slow twin of
``rust/trivium-vote/src/stops/best``: NumPy, the same formulas, written apart.
"""

from __future__ import annotations

import argparse
import math
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from trivium.cli.replays import CAP, GENERATED, load

UNITS = 8
"""Weights of types are multiples of one part in this."""
SPREAD = 5.0
"""Strength of the prior on a question's rate of abstentions."""
MAINS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.88, 0.94, 0.98, 1.0)
RESTS = ((-1.0, 1.0), (0.3, 1.0), (0.6, 8.0))
COMPONENTS = [
    (q, d, t)
    for d, t in RESTS
    for q in MAINS
    if not (q == 0 and t + d == 0) and not (q == 1 and t + d > 0)
]
"""Share of a main answer; discount and strength of the Pitman-Yor law of the rest."""
FACT = np.array([math.factorial(i) for i in range(CAP + 2)], dtype=np.float64)


def rising(x: float, step: float, num: int) -> np.ndarray:
    """``x (x + step) ... `` with 0 to `num` factors."""
    factors = x + step * np.arange(num)
    return np.concatenate([[1.0], np.cumprod(factors)])


def partition_likelihood(counts: list[int], q: float, d: float, t: float) -> float:
    """Probability of one sequence with these counts: which key is the main one is unknown."""

    def rest(counts: list[int]) -> float:
        value = rising(t, d, len(counts))[-1] / rising(t, 1, sum(counts))[-1]
        return value * math.prod(rising(1 - d, 1, c - 1)[-1] for c in counts)

    n = sum(counts)
    total = (1 - q) ** n * rest(counts) if n else 1.0
    for i, c in enumerate(counts if q else []):
        total += q**c * (1 - q) ** (n - c) * rest(counts[:i] + counts[i + 1 :])
    return total


# ---------------------------------------------------------------- lumped states
STATES = [(0, 0, 0, 0)] + [
    (a, b, c, n - a - b - c)
    for n in range(1, CAP + 1)
    for a in range(1, n + 1)
    for b in range(min(a, n - a) + 1)
    for c in range(min(b, n - a - b) + 1)
    if c > 0 or (n == a + b)
]
"""Counts of the leader, the second, the third, and all others together (each at most the third)."""
INDEX = {state: i for i, state in enumerate(STATES)}
COUNTS = np.array(STATES)
SIZES = COUNTS.sum(axis=1)


def others(t: float, d: float, cap: int) -> np.ndarray:
    """Weight of all partitions of o ballots into keys of at most `cap`, by o: coefficients of
    ``(1 - d f)^(-t/d)``, ``f = sum_c (1-d)...(c-1-d) x^c / c!``, times ``o!``."""
    f = rising(1 - d, 1, CAP)[:cap] / FACT[1 : cap + 1]
    g = np.zeros(CAP + 1)
    g[0] = 1.0
    c = np.arange(1, cap + 1)
    for o in range(1, CAP + 1):
        m = c[c <= o]
        g[o] = (f[m - 1] * g[o - m] * (t * m + d * (o - m))).sum() / o
    return g * FACT[: CAP + 1]


def likelihood(keys: np.ndarray, o: np.ndarray, cap: np.ndarray, comp: tuple) -> np.ndarray:
    """Probability of sequences with these counts of named keys (0: none) and `o` ballots for others
    of at most `cap` each."""
    q, d, t = comp
    n = keys.sum(axis=1) + o
    named = (keys > 0).sum(axis=1)
    one = np.concatenate([[1.0], rising(1 - d, 1, CAP)])
    table = np.array([[others(t + i * d, d, m) for m in range(CAP // 3 + 1)] for i in range(4)])
    strength, total = rising(t, d, 4), rising(t, 1, CAP + 1)
    blocks = one[keys].prod(axis=1)
    value = (1 - q) ** n * strength[named] * blocks * table[named, cap, o] / total[n]
    if q > 0:
        for i in range(3):
            c = keys[:, i]
            rest = np.delete(one[keys], i, axis=1).prod(axis=1)
            k = np.maximum(named - 1, 0)
            term = q**c * (1 - q) ** (n - c) * strength[k] * rest
            value += np.where(c > 0, term * table[k, cap, o] / total[n - c], 0.0)
        for c in range(1, CAP // 4 + 1):
            left = np.maximum(o - c, 0)
            choose = FACT[o] / (FACT[c] * FACT[left])
            term = choose * q**c * (1 - q) ** np.maximum(n - c, 0) * strength[named] * blocks
            term = term * table[named, cap, left] / total[np.maximum(n - c, 0)]
            value += np.where((c <= cap) & (c <= o), term, 0.0)
    return np.where(n == 0, 1.0, value)


@cache
def laws() -> tuple[np.ndarray, ...]:
    """By state and component: the state, one more for the second, for the third, for another key
    that has as many as the third."""
    parts = []
    _, _, c, o = COUNTS.T
    room = SIZES < CAP
    for q, d, t in COMPONENTS:
        comp = (q, d, t)
        keys = COUNTS[:, :3]
        here = likelihood(keys, o, c, comp)
        more = [
            np.where(room & (COUNTS[:, i] > 0), likelihood(keys + step, o, c, comp), 0.0)
            for i, step in ((1, np.array([0, 1, 0])), (2, np.array([0, 0, 1])))
        ]
        # Expected number of other keys with c ballots, the main answer not among them.
        cap = np.maximum(c, 1)
        fewer = np.maximum(o - cap, 0)
        g3 = np.array([others(t + 3 * d, d, m) for m in range(CAP // 3 + 1)])[c, o]
        g4 = np.array([others(t + 4 * d, d, m) for m in range(CAP // 3 + 1)])[c, fewer]
        size = np.concatenate([[1.0], rising(1 - d, 1, CAP)])[cap]
        number = (t + 3 * d) * size * FACT[o] / (FACT[cap] * FACT[fewer]) * g4
        number = np.divide(number, g3, out=np.zeros_like(g3), where=g3 > 0)
        ties = np.where((c > 0) & (o >= c), more[1] * number, 0.0)
        parts.append((here, *more, ties))
    return tuple(np.stack([p[i] for p in parts], axis=1) for i in range(4))


@cache
def targets() -> np.ndarray:
    """States ``[states, 5]`` after one ballot: leader, second, third, a level one, another."""
    target = np.zeros((len(STATES), 5), dtype=np.int64)
    for i, (w, x, y, z) in enumerate(STATES):
        up = (
            tuple(sorted((w + 1, x, y), reverse=True)),
            tuple(sorted((w, x + 1, y), reverse=True)),
            tuple(sorted((w, x, y + 1), reverse=True)),
        )
        new = (w, 1, 0, 0) if x == 0 else (w, x, 1, 0) if y == 0 else (w, x, y, z + 1)
        goes = [(*up[0], z), (*up[1], z), (*up[2], z), (*up[2], z), new]
        target[i] = [INDEX.get(g, 0) for g in goes]
    return target


def steps(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities ``[states, 5]`` of `targets`, and those."""
    here, second, third, level = (law @ weights for law in laws())
    a, b, c, _ = COUNTS.T
    target = targets()
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(SIZES < CAP, here[target[:, 0]] / here, 1.0)
        p = np.nan_to_num(p, nan=1.0, posinf=1.0).clip(max=1.0)
        q = np.where(b == 0, 0.0, np.where(a == b, p, np.nan_to_num(second / here)))
        q = np.minimum(q, 1 - p)
        r = np.where(c == 0, 0.0, np.where(b == c, q, np.nan_to_num(third / here)))
        r = np.minimum(r, 1 - p - q)
        s = np.where(c == 0, 0.0, np.nan_to_num(level / here))
        s = np.minimum(s, 1 - p - q - r)
    p[0], q[0] = 1.0, 0.0
    return np.stack([p, q, r, s, 1 - p - q - r - s], axis=1), target


def solve(weights: np.ndarray, none: float, price: float) -> np.ndarray:
    """Whether to stop: ``[rest, states, leader is the older of the first two]``."""
    p, target = steps(weights)
    a, b, c, _ = COUNTS.T
    # Who the leader (x = 1) or the second (x = 2) is afterwards, 0 if neither, and the new flag.
    tied, near, low = a == b, b + 1 == a, c < b
    stop = np.ones((CAP + 1, len(STATES), 2), dtype=bool)
    value = np.zeros((len(STATES), 2))
    win = np.stack([np.zeros_like(value), np.ones_like(value), np.zeros_like(value)])
    for rest in range(1, CAP + 1):
        old_value, old_win = value, win
        value, win = np.zeros_like(value), np.zeros_like(win)
        for f in (0, 1):
            same = np.full(len(STATES), f)
            swaps = near & (f == 0)  # the older second wins the tie it makes
            flag = np.stack(
                [
                    np.where(tied | (b == 0), 1, f),
                    np.where(tied, 0, np.where(near, 1, f)),
                    np.where(low, f, np.where(tied, 0, np.where(near, 1, f))),
                    np.where(low, f, np.where(tied, 0, np.where(near, 1, f))),
                    np.where(b == 0, 1, same),
                ],
                axis=1,
            )
            moved = tied | swaps
            first = np.stack([same * 0 + 1] * 5, axis=1)
            second = np.stack([same * 0 + 2] * 5, axis=1)
            first[:, 1] = np.where(moved, 2, 1)
            second[:, 1] = np.where(moved, 1, 2)
            for i in (2, 3):  # beyond the second, the second is out of the race
                first[:, i] = np.where(low | ~moved, 1, np.where(tied, 2, 2))
                second[:, i] = np.where(low, 2, 0)
            second[:, 4] = np.where(b == 0, 0, 2)
            after = (p * old_value[target, flag]).sum(axis=1)
            wins = [(p * old_win[x, target, flag]).sum(axis=1) for x in (first, second)]
            ahead = 1 + (1 - none) * after + none * old_value[:, f]
            for x in (1, 2):
                win[x, :, f] = (1 - none) * wins[x - 1] + none * old_win[x, :, f]
            now = np.where(a > 0, price * (1 - win[1, :, f]), np.inf)
            stop[rest, :, f] = now <= ahead
            value[:, f] = np.minimum(now, ahead)
    return stop


# ---------------------------------------------------------------- fitting
def full_tallies(questions: list) -> list[tuple[list[int], int]]:
    """Counts and abstentions of at most `CAP` votes of each question, in one order."""
    out = []
    for question in questions:
        keys = orders(question, 1)[0]
        counts = np.bincount(keys[keys >= 0]) if (keys >= 0).any() else np.zeros(0, dtype=int)
        out.append((sorted((int(c) for c in counts if c), reverse=True), int((keys < 0).sum())))
    return out


def mixture(rows: np.ndarray, mass: np.ndarray, prior: np.ndarray, strength: float) -> np.ndarray:
    """Weights of components by expectation-maximisation, pulled to `prior`."""
    weights = prior
    for _ in range(200):
        shares = rows * weights
        shares /= shares.sum(axis=1, keepdims=True)
        weights = mass @ shares + strength * prior
        weights = weights / weights.sum()
    return weights


def fit(tallies: list[list]) -> tuple[np.ndarray, np.ndarray]:
    """A type a set, ``[sets, components]``, and its rate of abstentions."""
    memo: dict[tuple, np.ndarray] = {}
    rows = []
    for set_tallies in tallies:
        for counts, _ in set_tallies:
            key = tuple(counts)
            if key not in memo:
                values = np.array([partition_likelihood(counts, *comp) for comp in COMPONENTS])
                memo[key] = values / values.max()
        rows.append(np.array([memo[tuple(counts)] for counts, _ in set_tallies]))
    flat = np.full(len(COMPONENTS), 1 / len(COMPONENTS))
    mass = np.concatenate([np.full(len(r), 1000 / len(r) / len(rows)) for r in rows])
    common = mixture(np.concatenate(rows), mass, flat, 5.0)
    types = np.array([mixture(r, np.ones(len(r)), common, 10.0) for r in rows])
    none = [(sum(z for _, z in s) + 0.1) / (sum(sum(c) + z for c, z in s) + 10.0) for s in tallies]
    return types, np.array(none)


# ---------------------------------------------------------------- replay
@cache
def _orders(name: str, num: int, perms: int) -> np.ndarray:
    crc = zlib.crc32(name.encode())
    return np.array([np.random.default_rng([0, t, crc]).permutation(num) for t in range(perms)])


def orders(question: dict, perms: int) -> np.ndarray:
    """Keys in the reference's orders, ``[perms, votes]``, -1 for an abstention."""
    keys = np.array([-1 if v["k"] is None else v["k"] for v in question["votes"]])
    return keys[_orders(question["q"], len(keys), perms)][:, :CAP]


class Learner:
    """Weights of types, learned from the tallies of the questions that have ended."""

    def __init__(self, types: np.ndarray, none: np.ndarray, price: float) -> None:
        self.none, self.price, self.types = none, price, types
        with np.errstate(divide="ignore"):
            self.log = np.log(np.maximum(laws()[0] @ types.T, 1e-300))
        self.tables: dict[tuple, np.ndarray] = {}
        self.reset()

    def reset(self) -> None:
        self.score = np.zeros(len(self.types), dtype=np.int64)
        self.seen = self.score
        self.ended = self.looked = 0

    def observe(self, state: int, num: int, none: int) -> None:
        x, y = SPREAD * self.none, SPREAD * (1 - self.none)
        value = self.log[state].copy()
        value += sum(np.log(x + i) for i in range(none)) + sum(np.log(y + i) for i in range(num))
        self.score += np.round(64 * (value - value.max()).clip(min=-600)).astype(np.int64)
        self.ended += 1
        if 2 * self.ended >= 3 * self.looked:
            self.seen, self.looked = self.score.copy(), self.ended

    def table(self) -> np.ndarray:
        share = np.exp((self.seen - self.seen.max()) / 64)
        share /= share.sum()
        key = self.shares(share)
        if key not in self.tables:
            mix = np.array(key) / sum(key)
            self.tables[key] = solve(mix @ self.types, float(mix @ self.none), self.price)
        return self.tables[key]

    def shares(self, share: np.ndarray) -> tuple[int, ...]:
        if self.ended == 0:
            return tuple([1] * len(share))
        units = np.floor(UNITS * share)
        left = np.argsort(-(UNITS * share - units), kind="stable")
        units[left[: int(UNITS - units.sum())]] += 1
        return tuple(int(u) for u in units)


def run(keys: list[int], table: np.ndarray) -> tuple[int, int, int, int]:
    """Winner (-1: none), ballots, abstentions and last state under a table."""
    counts: list[int] = []
    names: dict[int, int] = {}
    none = 0
    state = 0
    leader = 0
    for used, key in enumerate(keys, 1):
        if key < 0:
            none += 1
        else:
            i = names.setdefault(key, len(names))
            if i == len(counts):
                counts.append(0)
            counts[i] += 1
            best = max(counts)
            leader = counts.index(best)
            top = [*sorted(counts, reverse=True), 0, 0, 0]
            a, b, c = top[0], top[1], top[2]
            state = INDEX[a, b, c, used - none - a - b - c]
        rest = len(keys) - used
        if rest == 0:
            break
        if state:
            rivals = [i for i, c in enumerate(counts) if i != leader and c == b]
            older = not rivals or leader < rivals[0]
            if table[rest, state, int(older)]:
                break
    winner = next((k for k, i in names.items() if i == leader), -1)
    return winner, used - none, none, state


def score(questions: list, learner: Learner, perms: int) -> tuple[float, float]:
    """Samples and share of agreement, summed over orders and questions."""
    keys = [orders(q, perms).tolist() for q in questions]
    never = np.zeros((CAP + 1, len(STATES), 2), dtype=bool)
    samples = agree = 0
    for t in range(perms):
        learner.reset()
        for rows in keys:
            winner, num, none, state = run(rows[t], learner.table())
            learner.observe(state, num, none)
            samples += num + none
            agree += winner == run(rows[t], never)[0]
    return samples / perms, agree / perms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--perms", type=int, default=10)
    parser.add_argument("--price", type=float, nargs="+", default=[450.0, 500.0, 530.0, 560.0])
    parser.add_argument("--other-sets", action="store_true", help="no set teaches its own type")
    parser.add_argument("--write", type=Path, help="write the types fitted to all of DIR")
    args = parser.parse_args()
    sets = [load(f) for f in sorted(args.dir.glob("*.jsonl.gz"))]
    sets = [s for s in sets if not s.name.startswith(GENERATED)]
    if args.write:
        types, none = fit([full_tallies(s.questions) for s in sets])
        write(args.write, types, none)
        return
    totals = np.zeros((len(args.price), len(sets), 2))
    for fold in range(args.folds):
        inside = [
            [zlib.crc32(q["q"].encode()) % args.folds == fold for q in s.questions] for s in sets
        ]
        teach = [
            full_tallies([q for q, held in zip(s.questions, h, strict=True) if not held])
            for s, h in zip(sets, inside, strict=True)
        ]
        types, none = fit(teach)
        for i, price in enumerate(args.price):
            learner = Learner(types, none, price)
            for j, (s, h) in enumerate(zip(sets, inside, strict=True)):
                if args.other_sets:
                    keep = np.arange(len(sets)) != j
                    learner = Learner(types[keep], none[keep], price)
                held = [q for q, x in zip(s.questions, h, strict=True) if x]
                totals[i, j] += np.array(score(held, learner, args.perms)) / len(s.questions)
    print(f"{'price':>8s} {'samples':>8s} {'agreement':>9s}")
    for price, rows in zip(args.price, totals, strict=True):
        print(f"{price:8.0f} {rows[:, 0].mean():8.3f} {100 * rows[:, 1].mean():9.3f}")


def write(path: Path, types: np.ndarray, none: np.ndarray) -> None:
    """The types as text: rate of abstentions, then a weight a component, in parts per 10,000."""
    lines = ["# Types of questions behind `best`: made by benches/stop_best.py, see there."]
    for row, rate in zip(types, none, strict=True):
        parts = [round(10_000 * x) for x in (rate, *row)]
        lines.append(" ".join(str(x) for x in parts))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
