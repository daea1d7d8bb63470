"""`Speculator`, `Request`, `TreeBatch`, `Verified`: shapes, errors, and state after errors."""

import itertools
import threading

import numpy as np
import pytest
from trivium import GrammarMask, Speculator, Vocabulary, errors
from trivium._core import TreeBatch

PROMPT = [1, 2, 3, 4, 1, 2, 3, 4, 1, 2]


def make(**options):
    return Speculator(16, **{"max_nodes": 8, "policy": "full", **options})


def text(request):
    return request.tokens.tolist()


def test_a_batch_is_flat_arrays_with_offsets():
    spec = make()
    requests = [spec.start(PROMPT), spec.start([5]), spec.start([7, 8, 7])]
    batch = spec.propose(requests)
    n = int(batch.cu_nodes[-1])
    assert batch.cu_nodes.dtype == batch.tokens.dtype == batch.parents.dtype == np.int32
    assert batch.depths.dtype == batch.positions.dtype == np.int32
    assert batch.scores.dtype == np.float32
    for array in (batch.tokens, batch.parents, batch.depths, batch.positions, batch.scores):
        assert array.shape == (n,)
    for i, request in enumerate(requests):
        a, b = batch.cu_nodes[i : i + 2]
        assert b - a <= 8
        assert batch.tokens[a] == request.tokens[-1]
        assert batch.parents[a] == -1
        assert (batch.parents[a + 1 : b] < np.arange(1, b - a)).all()
        assert (batch.positions[a:b] == len(request) - 1 + batch.depths[a:b]).all()
    assert batch.tokens[1:4].tolist() == [3, 4, 1], "the text's own habit leads"


def test_masks_links_and_paths_describe_the_same_tree():
    spec = make()
    batch = spec.propose([spec.start(PROMPT), spec.start([3, 9, 3, 8, 3])])
    dense, words = batch.attention_mask(), batch.mask_words()
    width = dense.shape[1]
    for b in range(2):
        start, end = batch.cu_nodes[b : b + 2]
        parents = batch.parents[start:end]
        child, sibling = (x[start:end] for x in batch.links())
        for i in range(end - start):
            ancestors, node = set(), i
            while node >= 0:
                ancestors.add(node)
                node = int(parents[node])
            assert set(np.flatnonzero(dense[start + i])) == ancestors
            assert {j for j in range(width) if int(words[start + i, 0]) >> j & 1} == ancestors
            children, node = [], int(child[i])
            while node >= 0:
                children.append(node)
                node = int(sibling[node])
            assert children == [j for j in range(end - start) if parents[j] == i]
        for path in batch.paths(b):
            nodes = [int(x) for x in path if x >= 0]
            assert nodes[0] == 0
            assert all(parents[c] == p for p, c in itertools.pairwise(nodes))


def test_verify_by_ids_walks_and_commit_appends():
    spec = make()
    request = spec.start(PROMPT)
    batch = spec.propose([request])
    child = int(np.flatnonzero((batch.parents == 0) & (batch.tokens == 3))[0])
    sampled = np.full(len(batch.tokens), -1)
    sampled[0], sampled[child] = 3, 15
    out = spec.verify(batch, sampled=sampled)
    assert out.tokens.tolist() == [3, 15]
    assert out.num_accepted.tolist() == [1]
    assert out.kv_gather.tolist() == [0, child]
    assert out.cu_tokens.tolist() == [0, 2]
    assert out.logprobs is None
    assert text(request) == PROMPT, "verify commits nothing"
    spec.commit(out)
    assert text(request) == [*PROMPT, 3, 15]
    stats = spec.stats()
    assert (stats["steps"], stats["tokens"], stats["accepted"]) == (1, 2, 1)


def test_verify_by_logits_is_greedy_at_temperature_zero_and_reports_log_probabilities():
    spec = make()
    request = spec.start(PROMPT)
    batch = spec.propose([request])
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(len(batch.tokens), 16)).astype(np.float32)
    out = spec.verify(batch, logits=rows, temperature=0)
    assert out.tokens[0] == rows[0].argmax()
    assert out.logprobs[0] == 0
    out = spec.verify(batch, logits=rows, temperature=0.7)
    p = np.exp(rows[0] / 0.7 - np.logaddexp.reduce(rows[0] / 0.7))
    assert out.logprobs[0] == pytest.approx(np.log(p[out.tokens[0]]), abs=1e-5)


def test_f16_bf16_f64_rows_and_lists_are_logits_too():
    spec = make(sources=[])
    rows = np.zeros((1, 16), np.float32)
    rows[0, 5] = 9
    for view in (rows, rows.astype(np.float16), rows.astype(np.float64), rows.tolist()):
        batch = spec.propose([spec.start([1])])
        assert spec.verify(batch, logits=view, temperature=0).tokens.tolist() == [5]


def test_truncate_cuts_tokens_and_cache_rows_before_commit():
    spec = make()
    request = spec.start(PROMPT)
    batch = spec.propose([request])
    follow = np.where(batch.depths == 0, 3, np.where(batch.depths == 1, 4, 1))
    out = spec.verify(batch, sampled=follow)
    assert out.tokens.tolist()[:3] == [3, 4, 1]
    out.truncate(0, 2)
    assert out.tokens.tolist() == [3, 4]
    assert len(out.kv_gather) == 2
    with pytest.raises(errors.InputError):
        out.truncate(0, 3)
    spec.commit(out)
    assert text(request) == [*PROMPT, 3, 4]


def test_a_tree_of_another_prefix_is_refused_and_nothing_changes():
    spec = make()
    request = spec.start(PROMPT)
    batch = spec.propose([request])
    out = spec.verify(batch, sampled=np.zeros(len(batch.tokens), int))
    request.commit([7])
    for call in (
        lambda: spec.verify(batch, sampled=np.zeros(len(batch.tokens), int)),
        lambda: spec.commit(out),
    ):
        with pytest.raises(errors.StateError, match="11 tokens"):
            call()
    assert text(request) == [*PROMPT, 7]
    request.rollback(1)
    spec.commit(out)
    with pytest.raises(errors.StateError):
        spec.commit(out)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda s: s.start([]), errors.InputError),
        (lambda s: s.start([16]), errors.TokenError),
        (lambda s: s.start([-1]), errors.TokenError),
        (lambda s: s.start([[1, 2]]), errors.InputError),
        (lambda s: s.start([1.5]), errors.InputError),
        (lambda s: s.start([1], draw="dice"), errors.InputError),
        (lambda s: s.start([1], constraint=object()), errors.InputError),
        (lambda s: s.propose([s.start([1]), s.start([2])], max_total=1), errors.InputError),
        (lambda _: Speculator(0), errors.InputError),
        (lambda _: Speculator(4, max_nodes=0), errors.InputError),
        (lambda _: Speculator(4, max_nodes=10**6), errors.InputError),
        (lambda _: Speculator(4, sources=["oracle"]), errors.UnsupportedError),
        (lambda _: Speculator(4, verifier="wishful"), errors.UnsupportedError),
        (lambda _: Speculator(4, policy="fast"), errors.UnsupportedError),
        (lambda _: Speculator(4, seed=-1), errors.InputError),
    ],
)
def test_bad_arguments_are_typed(call, error):
    with pytest.raises(error) as caught:
        call(make())
    assert isinstance(caught.value, errors.TriviumError)


def rows_of(batch, fill=0.0):
    return np.full((len(batch.tokens), 16), fill, np.float32)


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({}, errors.InputError, "exactly one"),
        ({"sampled": [1, 2]}, errors.InputError, "2 rows for"),
        ({"logits": np.zeros((2, 16), np.float32)}, errors.InputError, "rows"),
        ({"logits": np.zeros((8, 15), np.float32)}, errors.InputError, "15 wide"),
        ({"logits": np.zeros((8, 16), np.int64)}, errors.InputError, "dtype"),
        ({"logits": np.zeros((8, 16), bool)}, errors.InputError, "dtype"),
        ({"logits": np.full((8, 16), np.nan, np.float32)}, errors.InputError, "row 0"),
        ({"logits": np.full((8, 16), np.inf, np.float32)}, errors.InputError, "inf"),
        ({"logits": np.full((8, 16), -np.inf, np.float32)}, errors.StateError, "row 0"),
        ({"logits": np.zeros((8, 16), np.float32), "temperature": -1}, errors.InputError, "temper"),
        ({"logits": np.zeros((8, 16), np.float32), "top_p": 0}, errors.InputError, "top_p"),
        ({"logits": np.zeros((8, 16), np.float32), "min_p": 2}, errors.InputError, "min_p"),
        ({"logits": np.zeros((8, 16), np.float32), "top_p": [1, 1]}, errors.InputError, "2 values"),
        ({"sampled": [16] * 8}, errors.TokenError, "16"),
        ({"sampled": [-1] * 8}, errors.StateError, "not computed"),
    ],
)
def test_bad_rows_are_typed_and_the_request_stays_usable(kwargs, error, match):
    spec = make()
    request = spec.start(PROMPT)
    batch = spec.propose([request])
    assert len(batch.tokens) == 8
    with pytest.raises(error, match=match):
        spec.verify(batch, **kwargs)
    assert text(request) == PROMPT
    spec.commit(spec.verify(batch, logits=rows_of(batch)))


def test_rows_off_the_walk_are_never_looked_at():
    spec = make()
    batch = spec.propose([spec.start(PROMPT)])
    rows = rows_of(batch, np.nan)
    rows[0] = 0
    rows[0, 9] = 5
    assert spec.verify(batch, logits=rows, temperature=0).tokens.tolist() == [9]


def test_host_trees_are_checked():
    spec = make()
    request = spec.start(PROMPT)
    good = TreeBatch.from_arrays([2, 3, 4], [-1, 0, 0], [0, 3], requests=[request])
    out = spec.verify(good, sampled=[4, 0, 9])
    assert out.tokens.tolist() == [4, 9]
    for tokens, parents, cu in (
        ([2, 3, 3], [-1, 0, 0], [0, 3]),
        ([2, 3, 4], [-1, 2, 0], [0, 3]),
        ([2, 3, 4], [0, 0, 0], [0, 3]),
        ([2, 3, 4], [-1, 0], [0, 3]),
        ([2, 3, 4], [-1, 0, 0], [0, 2]),
        ([2, 3, 4], [-1, 0, 0], [0, 1, 3]),
    ):
        with pytest.raises(errors.InputError):
            TreeBatch.from_arrays(tokens, parents, cu, requests=[request])
    with pytest.raises(errors.TokenError):
        TreeBatch.from_arrays([99], [-1], [0, 1], requests=[request])


def test_requests_of_another_speculator_are_refused():
    a, b = make(), make()
    request = a.start([1])
    with pytest.raises(errors.InputError, match="another speculator"):
        b.propose([request])


def test_the_same_request_twice_is_an_error_not_a_deadlock():
    spec = make()
    request = spec.start([1])
    with pytest.raises(errors.StateError):
        spec.propose([request, request])
    assert len(spec.propose([request]).tokens) >= 1


def test_finished_requests_say_so_and_teach_only_when_kept():
    spec = make(sources=["suffix"])
    for keep in (False, True):
        request = spec.start([9, 10, 11, 12])
        request.finish(keep=keep)
        with pytest.raises(errors.StateError, match="finished"):
            request.commit([1])
        drafted = spec.propose([spec.start([9, 10])]).tokens.tolist()
        assert (drafted[1:3] == [11, 12]) == keep


def test_tenants_share_nothing():
    spec = make(sources=["suffix"])
    spec.start([9, 10, 11, 12], tenant="a").finish()
    for tenant in ("b", None):
        assert 11 not in spec.propose([spec.start([9, 10], tenant=tenant)]).tokens
    assert 11 in spec.propose([spec.start([9, 10], tenant="a")]).tokens


def test_max_total_bounds_the_batch_and_spends_on_the_likeliest():
    spec = make(max_nodes=8)
    sure, vague = spec.start(PROMPT * 3), spec.start([1, 5, 1, 6, 1, 7, 1])
    batch = spec.propose([sure, vague], max_total=7)
    sizes = np.diff(batch.cu_nodes)
    assert sizes.sum() == 7
    assert sizes[0] > sizes[1]


def test_timings_size_the_tree_and_never_change_text():
    spec = Speculator(16, max_nodes=8)
    assert len(spec.propose([spec.start(PROMPT)]).tokens) == 8
    for n, seconds in ((1, 1.0), (2, 2.0), (8, 8.0)):
        spec.observe_forward(n, seconds)
    assert len(spec.propose([spec.start(PROMPT)]).tokens) == 1


def test_stores_survive_a_file_and_damage_is_an_input_error(tmp_path):
    spec = make()
    spec.start([9, 10, 11, 12]).finish()
    path = tmp_path / "store.safetensors"
    spec.save(path)
    again = Speculator.load(path)
    assert again.config == spec.config
    assert again.propose([again.start([9, 10])]).tokens.tolist()[:2] == [10, 11]
    raw = path.read_bytes()
    for bad in (b"", raw[: len(raw) // 2], b"\0" * 64):
        path.write_bytes(bad)
        with pytest.raises(errors.InputError):
            Speculator.load(path)
    with pytest.raises(errors.InputError):
        Speculator.load(tmp_path / "absent")


def test_every_flipped_byte_of_a_store_is_refused_or_harmless(tmp_path):
    spec = make()
    spec.start([9, 10, 11, 12]).finish()
    path = tmp_path / "store.safetensors"
    spec.save(path)
    raw = path.read_bytes()
    text = raw.index(b"checksum")
    for at in [*range(0, 400, 7), *range(text, text + 60), *range(len(raw) - 400, len(raw), 3)]:
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0x41]) + raw[at + 1 :])
        try:
            again = Speculator.load(path)
        except (errors.InputError, errors.UnsupportedError, errors.TokenError):
            continue
        # Only settings may differ: the contents are guarded by the checksum.
        assert again.propose([again.start([9, 10])]).tokens.tolist()[:2] == [10, 11]


def test_a_store_belongs_to_its_vocabulary(tmp_path):
    ours, theirs = (Vocabulary(words, eos=[0]) for words in ([b"a", b"b"], [b"c"]))
    path = tmp_path / "store.safetensors"
    make().save(path, vocabulary=ours)
    Speculator.load(path)
    Speculator.load(path, vocabulary=ours)
    with pytest.raises(errors.InputError, match="was made for"):
        Speculator.load(path, vocabulary=theirs)
    make().save(path)
    with pytest.raises(errors.InputError, match="no vocabulary in particular"):
        Speculator.load(path, vocabulary=ours)


def test_static_texts_serve_every_tenant_and_learn_nothing(tmp_path):
    path = tmp_path / "store.safetensors"
    spec = make()
    spec.start([9, 10, 11, 12]).finish()
    spec.save(path)
    other = make()
    assert 11 not in other.propose([other.start([9, 10])]).tokens
    other.attach(path)
    for tenant in (None, "a", "b"):
        request = other.start([9, 10], tenant=tenant)
        assert other.propose([request]).tokens.tolist()[:2] == [10, 11]
    request.commit([13])
    request.finish()
    assert 13 not in other.propose([other.start([9, 10])]).tokens
    with pytest.raises(errors.InputError, match="ids"):
        Speculator(77).attach(path)


def test_threads_may_share_a_speculator():
    spec = make()
    failures = []

    def run(seed):
        try:
            request = spec.start(PROMPT, seed=seed)
            for _ in range(30):
                batch = spec.propose([request])
                spec.commit(spec.verify(batch, logits=rows_of(batch)))
            request.finish()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures
    assert spec.stats()["steps"] == 120


def test_memory_is_reported_and_bounded():
    spec = make(max_bytes=100_000)
    rng = np.random.default_rng(1)
    for _ in range(200):
        spec.start(rng.integers(0, 16, 200)).finish()
    memory = spec.memory()
    assert memory["total"] == memory["suffix"] + memory["recycle"]
    assert memory["suffix"] < 300_000


def test_an_accepted_end_of_sequence_draft_ends_the_walk():
    vocab = Vocabulary([b"a", b"b", b""], eos=[2], special={2: "<end>"})
    spec = Speculator(3, sources=[])
    request = spec.start([1], constraint=GrammarMask.regex("ab", vocab).matcher())
    tree = TreeBatch.from_arrays([1, 0, 1, 2], [-1, 0, 1, 2], [0, 4], requests=[request])
    rows = np.zeros((4, 3), np.float32)
    rows[3] = np.nan  # the host's row behind the end means nothing
    ids = spec.verify(tree, sampled=[0, 1, 2, -1])
    assert (ids.tokens.tolist(), ids.kv_gather.tolist()) == ([0, 1, 2], [0, 1, 2])
    for temperature in (0.0, 1.0):
        out = spec.verify(tree, logits=rows, temperature=temperature)
        assert out.tokens.tolist() == [0, 1, 2]
        assert out.kv_gather.tolist() == [0, 1, 2], "the end's own node is not kept"
        assert out.logprobs.tolist() == [0, 0, 0], "each token was the only one allowed"
    spec.commit(out)
    assert text(request) == [1, 0, 1, 2]
