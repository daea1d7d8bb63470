"""Exports of draft trees have exact inverses and agree with each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trivium import Speculator, errors, trees
from trivium.speculator import TreeBatch

SPEC = Speculator(1000, sources=[])


@st.composite
def batches(draw, *, same=True, most=20):
    count = draw(st.integers(1, 3))
    n = draw(st.integers(1, most))
    tokens, parents, cu, requests = [], [], [0], []
    for _ in range(count):
        size = n if same else draw(st.integers(1, most))
        parents += [-1, *(draw(st.integers(0, i)) for i in range(size - 1))]
        tokens += range(size)
        cu.append(len(tokens))
        requests.append(SPEC.start([1] * draw(st.integers(1, 9))))
    return TreeBatch.from_arrays(tokens, parents, cu, requests=requests)


@given(batches())
@settings(max_examples=60, deadline=None)
def test_links_and_masks_give_the_parents_back(batch):
    n = int(batch.cu_nodes[1])
    tree = trees.sglang(batch, "qlen")
    masks = tree.tree_mask.reshape(-1, n, n)
    for b, parents in enumerate(batch.parents.reshape(-1, n)):
        links = tree.retrieve_next_token[b], tree.retrieve_next_sibling[b]
        assert (trees.parents_from_links(*links) == parents).all()
        assert (trees.parents_from_ancestors(masks[b]) == parents).all()
    assert (tree.retrieve_index.ravel() == np.arange(len(batch) * n)).all()


@given(batches())
@settings(max_examples=60, deadline=None)
def test_every_mask_says_the_same(batch):
    n = int(batch.cu_nodes[1])
    dense = trees.sglang(batch, "qlen").tree_mask.reshape(-1, n, n)
    packed = trees.sglang(batch, "packed").tree_mask.reshape(-1, n)
    assert packed.dtype.itemsize * 8 >= n
    full, at = trees.sglang(batch, "full").tree_mask, 0
    trt = trees.tensorrt_llm(batch)
    past = [len(r) - 1 for r in batch.requests]
    bits, offsets = trees.flashinfer(batch, past)
    for b, start in enumerate(past):
        block = full[at : at + n * (start + n)].reshape(n, start + n)
        at += block.size
        assert block[:, :start].all()
        assert (block[:, start:] == dense[b]).all()
        assert (trt.spec_dec_mask_matrix[b] == dense[b]).all()
        words = trt.spec_dec_packed_mask[b].view(np.uint32)
        unpacked = np.unpackbits(bits[offsets[b] : offsets[b + 1]], bitorder="little")
        assert (unpacked[: block.size].astype(bool) == block.ravel()).all()
        additive = trees.additive_mask(batch, b, start, np.float64)
        assert ((additive[0, 0] == 0) == block).all()
        for i in range(n):
            for j in range(n):
                assert bool(words[i, 0] >> np.uint32(j) & np.uint32(1)) == dense[b, i, j]
                assert bool(int(packed[b, i]) >> j & 1) == dense[b, i, j]
            path = [x for x in trt.eagle_paths[b, i] if x >= 0]
            assert path == np.flatnonzero(dense[b, i]).tolist()
            assert len(path) - 1 == trt.spec_dec_position_offsets[b, i]
    assert at == full.size


@given(batches(same=False))
@settings(max_examples=40, deadline=None)
def test_arctic_hangs_the_drafts_off_the_committed_text(batch):
    for (tokens, parents, _), a, b in zip(
        trees.arctic(batch), batch.cu_nodes, batch.cu_nodes[1:], strict=False
    ):
        assert tokens == batch.tokens[a + 1 : b].tolist()
        assert [p + 1 for p in parents] == batch.parents[a + 1 : b].tolist()
        assert all(p < i for i, p in enumerate(parents))


def test_rectangular_forms_refuse_ragged_batches():
    requests = [SPEC.start([1]), SPEC.start([1])]
    ragged = TreeBatch.from_arrays([1, 1, 2], [-1, -1, 0], [0, 1, 3], requests=requests)
    for call in (trees.sglang, trees.tensorrt_llm):
        with pytest.raises(errors.InputError, match="rectangular"):
            call(ragged)
    wide = TreeBatch.from_arrays(
        list(range(40)), [-1] + [0] * 39, [0, 40], requests=[SPEC.start([1])]
    )
    with pytest.raises(errors.InputError, match="32"):
        trees.sglang(wide, "packed")
    with pytest.raises(errors.InputError, match="cache lengths"):
        trees.flashinfer(wide, [1, 2])
