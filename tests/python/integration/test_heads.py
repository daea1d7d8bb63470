"""Multi-token heads on the shipped model: from a file, through `generate`, same text."""

from __future__ import annotations

import itertools

import pytest
from trivium import Speculator, tinylm, trees
from trivium.errors import InputError, UnsupportedError
from trivium.testing import assert_law

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

from trivium.integrations._transformers.heads import HeadStack, load_heads  # noqa: E402
from trivium.integrations.transformers import DraftModel, Heads, generate  # noqa: E402

pytestmark = pytest.mark.stack


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shipped():
    target, tokenizer = tinylm.load("target", "float64")
    prompts = [
        tokenizer(case["prompt"])["input_ids"][:40]
        for kind in tinylm.KINDS
        for case in tinylm.prompts(kind)[:1]
    ]
    texts = generate(target, prompts, temperature=0, max_new_tokens=28, eos_token_id=[]).sequences
    return target, prompts, texts


def fitted(target, texts, sequential):
    """Heads that map states of these texts, as well as a linear map can, to later ones."""
    width = target.config.hidden_size
    embed, output = target.get_input_embeddings(), target.get_output_embeddings()
    own = None if sequential else target.config.vocab_size
    heads = HeadStack(3, 1, width, own, sequential=sequential).double().requires_grad_(False)
    with torch.no_grad():
        ids = [torch.tensor(text) for text in texts]
        hidden = [target.model(x[None]).last_hidden_state[0] for x in ids]
        for k in range(3):
            # The state at i chose token i + 1; head k says token i + 2 + k, as i + 1 + k does.
            ways = [[embed(x)[1 + j : len(x) - k + j] for j in range(k + 1)] for x in ids]
            then = torch.cat([h[k + 1 :] for h in hidden])
            now = torch.cat([h[: -k - 1] for h in hidden])
            if sequential:
                way = torch.cat([torch.stack(w, 1).flatten(1) for w in ways])
                now = torch.cat([now, way], 1)
            step = torch.linalg.lstsq(now, then, driver="gelsd").solution.T
            block = heads.blocks[k][0]
            block.linear.weight.zero_()
            block.linear.bias.zero_()
            if sequential:
                block.res_connection.weight.copy_(step)
                block.res_connection.bias.zero_()
            else:
                heads.outputs[k].weight.copy_(output.weight @ step)
    return heads.eval()


def saved(heads, path):
    """Write heads under the names of the releases."""
    out = {}
    for name, tensor in heads.state_dict().items():
        part, k, *rest = name.split(".")
        if heads.sequential and part == "blocks":
            name = f"hydra_mlp.{k}.{2 * int(rest[0]) + 1}.{'.'.join(rest[1:])}"
        elif heads.sequential:
            name = f"hydra_lm_head.{k}.1.{rest[0]}"
        elif part == "blocks":
            name = f"{k}.{'.'.join(rest)}"
        else:
            name = f"{k}.{len(heads.blocks[0])}.{rest[0]}"
        out[name] = tensor.clone()
    safetensors.save_file(out, path)
    return path


@pytest.fixture(scope="module", params=["medusa", "hydra"])
def file(request, shipped, tmp_path_factory):
    target, _, texts = shipped
    heads = fitted(target, texts, request.param == "hydra")
    return saved(heads, tmp_path_factory.mktemp("heads") / f"{request.param}.safetensors")


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_texts_are_those_of_the_plain_loop(shipped, file, temperature):
    target, prompts, _ = shipped
    options = {"max_new_tokens": [20, 14, 9], "temperature": temperature, "seed": 5}
    plain = generate(target, prompts, **options)
    for sources in ([], ["suffix", "recycle"]):
        spec = Speculator(target.config.vocab_size, sources=sources, max_nodes=8, policy="full")
        fast = generate(target, prompts, speculator=spec, draft_model=Heads(file), **options)
        assert fast.new_tokens == plain.new_tokens
        if not temperature:
            assert fast.tokens_per_call > 1.5


def test_a_template_is_a_shape_of_ranks(shipped, file):
    target, prompts, _ = shipped
    shape = trees.Template.from_choices([[0], [1], [0, 0], [0, 1], [0, 0, 0]])
    draft = Heads(file, builder="template", template=shape)
    spec = Speculator(target.config.vocab_size, sources=[], max_nodes=1)
    plain = generate(target, prompts, temperature=0, max_new_tokens=12)
    fast = generate(
        target, prompts, speculator=spec, draft_model=draft, temperature=0, max_new_tokens=12
    )
    assert fast.new_tokens == plain.new_tokens
    assert fast.tokens_per_call > 1.2


def test_heads_know_what_is_behind_the_next_token(shipped, file):
    """A drafted row is that of the head at the state which chose the last token."""
    target, prompts, texts = shipped
    stack = load_heads(file).double()
    ids = torch.tensor([texts[0]])
    at = len(prompts[0]) + 6
    with torch.no_grad():
        hidden = target.model(ids).last_hidden_state[0, at - 1]
        way = target.get_input_embeddings()(ids)[:, at : at + 1]
        want = stack.rows(0, hidden[None], way, target.get_output_embeddings())[0]
    asked = []

    class Spy(HeadStack):
        def rows(self, k, hidden, way, shared):
            out = super().rows(k, hidden, way, shared)
            if not k:
                asked.append(out)
            return out

    spy = load_heads(file).double()
    spy.__class__ = Spy
    spec = Speculator(target.config.vocab_size, sources=[], max_nodes=1)
    out = generate(
        target,
        [texts[0][:at]],
        speculator=spec,
        draft_model=Heads(spy),
        temperature=0,
        max_new_tokens=3,
        eos_token_id=[],
    )
    assert out.new_tokens[0][0] == texts[0][at]
    assert any(torch.allclose(rows[0], want, atol=1e-4) for rows in asked)


def tiny():
    config = transformers.LlamaConfig(
        vocab_size=4,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        eos_token_id=None,
        bos_token_id=None,
    )
    torch.manual_seed(3)
    model = transformers.LlamaForCausalLM(config).double().eval()
    with torch.no_grad():
        model.lm_head.weight *= 30
    return model


@pytest.mark.parametrize(
    ("builder", "verifier"), [("chain", "block"), ("rsd_s", "recursive"), ("eagle2", "law")]
)
@pytest.mark.parametrize("sequential", [False, True])
def test_drawn_trees_keep_the_law(builder, verifier, sequential):
    """Statistical: 400 texts of three tokens against their exact law."""
    target = tiny()
    torch.manual_seed(4)
    heads = HeadStack(2, 1, 16, 4, sequential=sequential, bias=True).double().eval()
    out = generate(
        target,
        [[1, 2]] * 400,
        speculator=Speculator(4, sources=[], max_nodes=1, verifier=verifier),
        draft_model=Heads(heads, builder=builder, width=2, max_nodes=6),
        max_new_tokens=3,
        eos_token_id=[],
        seed=list(range(400)),
    )
    law = {}
    with torch.inference_mode():
        for text in itertools.product(range(4), repeat=3):
            rows = target(torch.tensor([[1, 2, *text]])).logits[0, 1:-1].softmax(-1)
            law[text] = float(rows[range(3), list(text)].prod())
    counts = dict.fromkeys(law, 0)
    for text in out.new_tokens:
        counts[tuple(text)] += 1
    assert_law(counts, law)
    assert out.tokens_per_call > 1


def test_what_does_not_fit_is_refused(shipped, file, tmp_path):
    target, prompts, _ = shipped
    vocab = target.config.vocab_size
    with pytest.raises(UnsupportedError, match="block"):
        generate(
            target, prompts, speculator=Speculator(vocab, verifier="block"), draft_model=Heads(file)
        )
    with pytest.raises(InputError, match="wide"):
        generate(target, prompts, draft_model=Heads(HeadStack(2, 1, 8)))
    shape = trees.Template.chain(4)
    with pytest.raises(InputError, match="deeper"):
        generate(target, prompts, draft_model=Heads(file, builder="template", template=shape))
    with pytest.raises(InputError, match="cannot be read"):
        load_heads(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read"):
        load_heads(tmp_path / "cut.safetensors")
    safetensors.save_file({"prefix.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="Medusa"):
        load_heads(tmp_path / "other.safetensors")
    safetensors.save_file({"0.0.linear.weight": torch.zeros(2, 2)}, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match="bias"):
        load_heads(tmp_path / "part.safetensors")
    for wrong in ({"builder": "heap"}, {"builder": "template"}, {"width": 0}):
        with pytest.raises(InputError):
            Heads(file, **wrong)
    assert DraftModel(None).policy is None
