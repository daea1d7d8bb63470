"""The shipped checkpoints, their tokenizer and prompts, and the training command."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trivium import tinylm
from trivium.tinylm import problems

_LIMITS = {"target": 3_400_000, "draft": 340_000}


def test_import_does_not_load_torch() -> None:
    code = "import sys, trivium.tinylm; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_folders_are_small() -> None:
    files = [f for which in tinylm.MODELS for f in tinylm.path(which).iterdir()]
    assert sum(file.stat().st_size for file in files) < 8_000_000


@pytest.mark.parametrize("which", tinylm.MODELS)
def test_folder_is_complete(which: str) -> None:
    names = {file.name for file in tinylm.path(which).iterdir()}
    assert names >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "train_log.json",
    }
    config = json.loads((tinylm.path(which) / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["vocab_size"] == 4096


def test_both_models_share_the_tokenizer() -> None:
    texts = [(tinylm.path(which) / "tokenizer.json").read_text() for which in tinylm.MODELS]
    assert texts[0] == texts[1]


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="which must be"):
        tinylm.path("teacher")
    with pytest.raises(ValueError, match="kind must be"):
        tinylm.prompts("poems")


@pytest.mark.parametrize(
    ("kind", "num", "keys"),
    [
        ("code", 24, {"id", "prompt", "reference", "source", "function"}),
        ("records", 16, {"id", "prompt", "reference", "kind", "schema"}),
        ("arithmetic", 200, {"id", "prompt", "solution", "answer", "level"}),
    ],
)
def test_prompts(kind: str, num: int, keys: set[str]) -> None:
    cases = tinylm.prompts(kind)
    assert len(cases) == num
    assert len({case["id"] for case in cases}) == num
    assert len({case["prompt"] for case in cases}) == num
    assert all(set(case) == keys for case in cases)


def test_arithmetic_prompts_are_heldout() -> None:
    for case in tinylm.prompts("arithmetic"):
        question = case["prompt"].removeprefix("Q: ").removesuffix("\nA:")
        assert problems.is_heldout(question)
        assert problems.check(case["solution"]) == case["answer"]


def test_code_prompts_are_heldout_and_carry_the_licence() -> None:
    pytest.importorskip("numpy")
    from trivium.tinylm import material

    assert {case["source"] for case in tinylm.prompts("code")} <= material.HELDOUT_FILES
    trained = {path.as_posix() for path in material.code_files()}
    assert not any(path.endswith(f"/lib/{name}") for path in trained for name in ("heapq.py",))
    assert not {p.name for p in material.code_files(heldout=True)} - {
        Path(name).name for name in material.HELDOUT_FILES
    }
    notice = tinylm.path().parent / "prompts" / "LICENSE-PYTHON.txt"
    assert "PYTHON SOFTWARE FOUNDATION LICENSE" in notice.read_text(encoding="utf-8")


def test_readme_states_the_measured_facts() -> None:
    from trivium.tinylm import card

    readme = tinylm.path().parent / "README.md"
    assert readme.read_text(encoding="utf-8") == card.render()


class TestModels:
    """Checks that need torch and transformers."""

    @pytest.fixture(autouse=True)
    def _needs_torch(self) -> None:
        pytest.importorskip("torch")
        pytest.importorskip("transformers")

    @pytest.mark.parametrize("which", tinylm.MODELS)
    def test_size_and_layout(self, which: str) -> None:
        model, tokenizer = tinylm.load(which)
        assert type(model).__name__ == "LlamaForCausalLM"
        assert model.num_parameters() <= _LIMITS[which]
        assert model.config.tie_word_embeddings
        assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
        assert len(tokenizer) == 4096
        assert tokenizer.eos_token_id == 0
        assert model.generation_config.eos_token_id == [0, 1]
        assert not model.training

    @pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
    def test_dtypes(self, dtype: str) -> None:
        import torch

        model, tokenizer = tinylm.load("target", dtype)
        ids = torch.tensor([tokenizer("import os\n")["input_ids"]])
        with torch.inference_mode():
            logits = model(ids).logits
        assert logits.dtype == getattr(torch, dtype)
        assert bool(torch.isfinite(logits).all())

    def test_stored_weights_are_float16(self) -> None:
        from safetensors import safe_open

        for which in tinylm.MODELS:
            with safe_open(tinylm.path(which) / "model.safetensors", "pt") as file:
                names = list(file.keys())
                kinds = {file.get_slice(name).get_dtype() for name in names}
            assert kinds == {"F16"}
            assert "lm_head.weight" not in names

    def test_tokenizer_round_trip(self) -> None:
        _, tokenizer = tinylm.load("draft")
        rng = random.Random(0)
        texts = ["", " ", "a  b\n\n\n\tc", "naïve ∀x 🙂", "12345", "def f(x):\n        return x\n"]
        texts += ["".join(chr(rng.randrange(1, 0xD800)) for _ in range(40)) for _ in range(50)]
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(ids) == text
            assert max(ids, default=0) < 4096

    def test_every_byte_has_a_token(self) -> None:
        _, tokenizer = tinylm.load("draft")
        from tokenizers.pre_tokenizers import ByteLevel

        assert set(ByteLevel.alphabet()) <= set(tokenizer.get_vocab())
        assert len(ByteLevel.alphabet()) == 256

    def test_digits_stand_alone(self) -> None:
        _, tokenizer = tinylm.load("draft")
        many = [t for t in tokenizer.get_vocab() if sum(c.isdigit() for c in t) > 1]
        assert not [t for t in many if t.isascii()]

    def test_special_tokens(self) -> None:
        _, tokenizer = tinylm.load("draft")
        names = ["<|endoftext|>", "<|end|>", "<|pad|>"]
        assert tokenizer.convert_tokens_to_ids(names) == [0, 1, 2]
        assert tokenizer("a<|end|>")["input_ids"][-1] == 1

    def test_target_can_add(self) -> None:
        import torch
        from trivium.tinylm.evaluate import sample

        model, tokenizer = tinylm.load("target")
        cases = tinylm.prompts("arithmetic")[:40]
        texts = sample(
            model,
            tokenizer,
            [case["prompt"] for case in cases],
            max_new_tokens=96,
            temperature=0.0,
            generator=torch.Generator().manual_seed(0),
        )
        read = [problems.extract_answer(text) for [text] in texts]
        right = sum(a == case["answer"] for a, case in zip(read, cases, strict=True))
        assert right >= 16

    def test_sampling_does_not_depend_on_the_batch(self) -> None:
        import torch
        from trivium.tinylm.evaluate import sample

        model, tokenizer = tinylm.load("target", "float64")
        texts = [case["prompt"] for case in tinylm.prompts("arithmetic")[:4]]
        settings: dict[str, Any] = {"max_new_tokens": 32, "temperature": 0.0}
        generator = torch.Generator()
        together = sample(model, tokenizer, texts, generator=generator, **settings)
        alone = [
            sample(model, tokenizer, [text], generator=generator, **settings)[0] for text in texts
        ]
        assert together == alone

    def test_smoke_training(self, tmp_path: Path) -> None:
        from transformers import AutoTokenizer, LlamaForCausalLM
        from trivium.tinylm import train

        arguments = ["--smoke", "--out", str(tmp_path), "--threads", "1", "--device", "cpu"]
        assert train.main(arguments) == 0
        for which in tinylm.MODELS:
            model = LlamaForCausalLM.from_pretrained(tmp_path / which)
            assert model.num_parameters() <= _LIMITS[which]
            AutoTokenizer.from_pretrained(tmp_path / which)
            facts = json.loads((tmp_path / which / "train_log.json").read_text())
            assert facts["tokens_trained"] == 1024
            assert set(facts["curve"][-1]["losses"]) >= set(tinylm.KINDS)

    def test_question_weighs_little(self) -> None:
        from trivium.tinylm import material

        _, tokenizer = tinylm.load("draft")
        rows = material.encode(tokenizer, "arithmetic", 0, 400)[None]
        end = tokenizer.encode("?\n", add_special_tokens=False)[-1]
        weights = material.loss_weights("arithmetic", rows, end)
        light = tokenizer.decode(rows[weights < 1].tolist())
        full = tokenizer.decode(rows[weights == 1].tolist())
        assert "How many" in light
        assert "The answer is" not in light
        assert full.count("The answer is") > 2
        assert (material.loss_weights("code", rows, end) == 1).all()

    def test_rate_falls_to_zero(self) -> None:
        from trivium.tinylm import train

        rates = [train._rate(i / 100, 0.6) for i in range(101)]
        assert max(rates) == 1.0
        assert rates[0] < 0.1
        assert rates[-1] < 0.01
