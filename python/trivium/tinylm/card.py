"""Write the README of the shipped models: ``python -m trivium.tinylm.card``.

Every figure is read from ``train_log.json`` and ``eval.json`` beside the weights; the text around
them is fixed. Running the command after a rebuild brings the README up to date.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["main", "render"]

_HERE = Path(__file__).resolve().parent

_TEXT = """\
# tinylm

Two small Llama checkpoints with one tokenizer, made for trying decoding methods without a download.
`target/` has {target_params:,} parameters, `draft/` has {draft_params:,}; the weights are stored as
float16 with tied embeddings. The folders load unchanged with
`transformers.LlamaForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`, or with

```python
from trivium import tinylm

model, tokenizer = tinylm.load("target")
prompts = tinylm.prompts("arithmetic")
```

These are toys. They know the shape of Python, five kinds of records and the arithmetic of short
word problems, and nothing else.

## Data

Nothing is fetched. The material is

- **code**: the standard library of Python {python}, without tests, encodings and generated tables;
  {num_files} files are held out;
- **records**: a line of text and the same facts as compact JSON, five kinds, generated;
- **arithmetic**: word problems of two to four steps with worked solutions, generated; problems are
  held out by a hash of their text;
- **drill**: bare equations in the number ranges of the problems.

| kind | share of a batch | tokens of material |
| --- | ---: | ---: |
{data_rows}

The tokenizer is a byte-level BPE of 4,096 tokens trained on the same material. All 256 bytes are
present and each digit is a token of its own. `<|endoftext|>` (0) separates documents, `<|end|>`
(1) ends a record document or an answer, `<|pad|>` (2) pads; both 0 and 1 end a generation.

## Training

| | target | draft |
| --- | ---: | ---: |
{train_rows}

Hidden matrices are updated by Muon, embeddings and norms by AdamW, in bfloat16 autocast; rows of
256 tokens for two thirds of the schedule, then of 512. The question of a word problem counts little
in the loss. From {distil_from} of its schedule on, the draft learns the target's distribution. The
schedule is fixed by a number of tokens; on a machine too slow for the budget in minutes it is
compressed.{stages}

```console
python -m trivium.tinylm.train      # both models; --smoke for a few steps
python -m trivium.tinylm.evaluate   # losses and accuracy as JSON
python -m trivium.tinylm.card       # this file
```

## Held-out results

Loss in nats per token on held-out text. The arithmetic and record losses contain the wording of the
questions, which is chance.

| kind | target | draft |
| --- | ---: | ---: |
{loss_rows}

Arithmetic at temperature {temperature}, {num_problems} held-out problems of each level.
*One sample* is the mean over {num_samples} samples; *vote* is the plurality of the same samples.

| level | one sample | vote of {num_samples} | greedy |
| ---: | ---: | ---: | ---: |
{level_rows}

Records, {num_records} prompts: valid JSON, and equal to the expected record.

| temperature | valid | equal |
| ---: | ---: | ---: |
{record_rows}

Draft against target on held-out text: *overlap* is the mean of Σ min(p, q), the chance that one
drafted token is accepted at temperature 1; *same top token* is the share of equal greedy choices.
The rows of arithmetic and records hold the questions too, on which two models agree about chance.

| kind | overlap | same top token |
| --- | ---: | ---: |
{agreement_rows}

## Prompts

`prompts/code.json` (24 functions of held-out files), `prompts/records.json` (16, with schemas) and
`prompts/arithmetic.json` (200, with gold answers; levels {prompt_levels}). The code prompts are
excerpts of the Python standard library under `prompts/LICENSE-PYTHON.txt`.

## Limits

- Code completions have the look of Python and seldom its sense; identifiers of more than a few
  pieces drift.
- A record that satisfies its schema may still differ from the text it was read from.
- The sampled accuracy comes from one run of one seed on {num_problems} problems of each level.
- Positions beyond 512 were never trained.
- The code material depends on the Python version that runs the training; a rebuild under another
  version gives other weights and another tokenizer.
"""


_STAGES = """

The target was trained in stages, written as sums above. Other work shared the two cores, so the
first stage was stopped by hand and continued with `--resume` at a lower rate; the minutes say what
that day allowed, not what the training needs."""


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _rows(cells: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _training(logs: dict[str, Any]) -> str:
    def cell(value: Any) -> str:
        return f"{value:,}" if isinstance(value, int | float) else str(value)

    def total(log: dict[str, Any], key: str) -> str:
        stages = [*log.get("earlier", []), log]
        parts = [cell(stage[key]) for stage in stages]
        return " + ".join(parts)

    def each(name: str, *path: str) -> list[str]:
        cells = []
        for log in logs.values():
            value: Any = log
            for key in path:
                value = value[key]
            cells.append(cell(value))
        return [name, *cells]

    return _rows(
        [
            ["tokens trained", *(total(log, "tokens_trained") for log in logs.values())],
            ["wall clock, minutes", *(total(log, "minutes") for log in logs.values())],
            each("seed", "settings", "seed"),
            each("device", "hardware", "device"),
            each("threads", "hardware", "threads"),
            each("torch", "hardware", "torch"),
        ]
    )


def render(folder: Path = _HERE) -> str:
    """Text of the README.

    Parameters
    ----------
    folder : Path
        Folder that holds ``target``, ``draft`` and ``prompts``.

    Returns
    -------
    str
        Markdown.
    """
    logs = {which: _read(folder / which / "train_log.json") for which in ("target", "draft")}
    results = {which: _read(folder / which / "eval.json") for which in ("target", "draft")}
    log, result = logs["target"], results["target"]
    levels = result["arithmetic"]
    first = next(iter(levels.values()))
    stages = [*log.get("earlier", []), log]
    material = {k: max(stage["material_tokens"][k] for stage in stages) for k in log["mixture"]}
    prompt_levels = {case["level"] for case in _read(folder / "prompts" / "arithmetic.json")}
    return _TEXT.format(
        target_params=result["num_parameters"],
        draft_params=results["draft"]["num_parameters"],
        python=log["hardware"]["python"],
        num_files=log["num_heldout_files"],
        data_rows=_rows([[k, _percent(s), f"{material[k]:,}"] for k, s in log["mixture"].items()]),
        train_rows=_training(logs),
        loss_rows=_rows(
            [[k, *(f"{r['losses'][k]:.3f}" for r in results.values())] for k in log["mixture"]]
        ),
        temperature=result["temperature"],
        num_problems=first["num_problems"],
        num_samples=first["num_samples"],
        level_rows=_rows(
            [
                [level, *(_percent(row[key]) for key in ("single", "vote", "greedy"))]
                for level, row in levels.items()
            ]
        ),
        num_records=next(iter(result["records"].values()))["num_prompts"],
        record_rows=_rows(
            [
                [t, _percent(row["parses"]), _percent(row["exact"])]
                for t, row in result["records"].items()
            ]
        ),
        stages=_STAGES if log.get("earlier") else "",
        agreement_rows=_rows(
            [
                [kind, _percent(row["overlap"]), _percent(row["top"])]
                for kind, row in results["draft"]["agreement"].items()
            ]
        ),
        prompt_levels=", ".join(map(str, sorted(prompt_levels))),
        distil_from=_percent(logs["draft"]["settings"]["distil_from"]),
    )


def main() -> int:
    """Write the README.

    Returns
    -------
    int
        Exit code.
    """
    (_HERE / "README.md").write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
