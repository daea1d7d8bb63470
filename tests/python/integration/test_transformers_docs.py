"""The page on transformers runs as written."""

from __future__ import annotations

import re

import pytest
from trivium import tinylm

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = pytest.mark.stack


def test_blocks_of_the_page_run(root):
    if not (tinylm.path() / "model.safetensors").is_file():
        pytest.skip("tinylm is not trained in this checkout")
    page = (root / "docs" / "howto" / "transformers.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    built = "Speculator(model.config.vocab_size)"
    always = 'Speculator(model.config.vocab_size, policy="full")'
    assert sum(block.count(built) for block in blocks) == 1
    names: dict[str, object] = {}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for block in blocks:
            # Whether drafts pay is measured, and a busy machine may measure that they do not.
            exec(block.replace(built, always), names)
    finally:
        torch.set_num_threads(before)
    assert names["c"].verdict in ("identical", "host_rounding")
    assert names["out"].tokens_per_call > 1
    assert len(names["out"].sequences[0]) > len(
        names["tokenizer"]([names["prompt"]])["input_ids"][0]
    )
