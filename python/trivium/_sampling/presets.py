"""Named pipelines, each with a label of what its texts are samples of.

Labels: ``exact-law``, texts are samples of the model's own law; ``heuristic``, tokens have the law
(or are the choice) that the rules define, and texts have no simpler one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from trivium.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trivium.sampling import Pipeline


@dataclass(frozen=True)
class Preset:
    """Options of a `Pipeline` under a name. Printing it shows all of them and the label."""

    name: str
    exactness: str
    """``exact-law`` or ``heuristic``."""
    law: str
    """What is drawn, in words."""
    options: Mapping[str, Any] = field(default_factory=dict)

    def pipeline(self, **more: Any) -> Pipeline:
        """Make the pipeline; `more` options (masks, penalties) are added and change the law.

        Raises
        ------
        InputError
            `more` names an option of the preset: change that with `preset`.
        """
        from trivium.sampling import Pipeline

        if both := sorted(self.options.keys() & more):
            raise InputError(f"{both[0]}: belongs to the preset; preset({self.name!r}, ...)")
        return Pipeline(**self.options, **more)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        return f"{self.name}({options}) [{self.exactness}]: {self.law}"


_LOCAL = "each token of the law that is left, renormalised; texts are weighted by ln_kept"

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        one.name: one
        for one in (
            Preset("greedy", "heuristic", "each token the most likely", {"temperature": 0.0}),
            Preset("ancestral", "exact-law", "texts of the model's own law"),
            Preset("nucleus", "heuristic", _LOCAL, {"temperature": 0.8, "top_p": 0.95}),
            Preset("min_p", "heuristic", _LOCAL, {"min_p": 0.1}),
            Preset("typical", "heuristic", _LOCAL, {"typical": 0.9}),
            Preset(
                "mirostat",
                "heuristic",
                "surprise of the text near tau bits a token",
                {"mirostat": {"version": 2, "tau": 5.0, "eta": 0.1}},
            ),
            Preset(
                "momentum",
                "heuristic",
                "each token the most likely, unless that would repeat the text",
                {"momentum": 0.2},
            ),
            Preset(
                "code_greedy_rpg",
                "heuristic",
                "each token the most likely, after a penalty on repeated patterns",
                {"temperature": 0.0, "rpg": 0.9, "eos": ()},
            ),
        )
    }
)


def preset(name: str, **changes: Any) -> Preset:
    """Look a preset up, and change its options.

    Parameters
    ----------
    name : str
        One of `PRESETS`.
    **changes
        New values of options that the preset has.

    Raises
    ------
    InputError
        There is no such preset, or it has no such option.

    Examples
    --------
    >>> print(preset("nucleus", top_p=0.9))  # doctest: +ELLIPSIS
    nucleus(temperature=0.8, top_p=0.9) [heuristic]: each token of the law that is left, ...
    """
    if name not in PRESETS:
        raise InputError(f"preset: {name!r} is none of {', '.join(PRESETS)}")
    found = PRESETS[name]
    if unknown := sorted(changes.keys() - found.options.keys()):
        has = ", ".join(found.options) or "none"
        raise InputError(f"{unknown[0]}: is no option of preset {name!r}, which has {has}")
    return Preset(name, found.exactness, found.law, {**found.options, **changes})
