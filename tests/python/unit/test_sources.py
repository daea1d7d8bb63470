"""Source objects: text forms, defaults shared with Rust, and what each does in a speculator."""

from __future__ import annotations

import re
from dataclasses import fields

import numpy as np
import pytest
from trivium import Speculator, sources
from trivium.errors import InputError, UnsupportedError

CLASSES = [
    c
    for c in (getattr(sources, name) for name in sources.__all__)
    if isinstance(c, type) and issubclass(c, sources.Source) and c.name
]
NEEDS = {}


@pytest.fixture(scope="module", autouse=True)
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "a;b=c,d%.safetensors"  # needs every escape
    rng = np.random.default_rng(5)
    sources.build_corpus(path, [rng.integers(0, 3, 50) for _ in range(4)], 64)
    NEEDS[sources.Rest] = {"corpus": path}
    return path


def make(cls, **settings):
    return cls(**NEEDS.get(cls, {}), **settings)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.name)
def test_rust_knows_every_setting_and_has_the_same_default(cls):
    """Writing a default out changes nothing; an unknown key names the known ones."""
    plain = make(cls)
    text = str(plain)
    with pytest.raises(InputError) as caught:
        Speculator(64, sources=[text + (";" if ":" in text else ":") + "nonsense=1"])
    known = re.search(r"it has \[(.*)\]", str(caught.value)).group(1).split(", ")
    assert set(known) == {f.name for f in fields(cls)}
    written = []
    for f in fields(cls):
        value = getattr(plain, f.name)
        if value is not None:
            text = ("no", "yes")[value] if isinstance(value, bool) else str(value)
            written.append(f"{f.name}={text.translate(sources._ESCAPES)}")
    spelled = Speculator(64, sources=[f"{cls.name}:{';'.join(written)}"], policy="full")
    short = Speculator(64, sources=[plain], policy="full")
    rng = np.random.default_rng(3)
    for n in range(2, 60, 3):
        prompt = rng.integers(0, 3, n)
        drafts = [s.propose([s.start(prompt)]).tokens.tolist() for s in (spelled, short)]
        assert drafts[0] == drafts[1]


def test_every_source_of_rust_has_an_object_or_no_settings():
    with pytest.raises(UnsupportedError) as caught:
        Speculator(16, sources=["?"])
    names = set(re.findall(r'"([a-z_]+)"', str(caught.value).split(" are ")[-1]))
    assert names - {c.name for c in CLASSES} == {"suffix", "recycle"}


def test_settings_reach_the_draft():
    spec = Speculator(16, sources=[sources.PromptLookup(num_tokens=2, match="latest")])
    batch = spec.propose([spec.start([1, 2, 3, 1, 4, 5, 1])])
    assert batch.tokens.tolist() == [1, 4, 5]
    assert spec.config["sources"] == ["prompt_lookup:num_tokens=2;match=latest"]
    with pytest.raises(InputError, match="max_ngram=99 is outside"):
        Speculator(16, sources=[sources.PromptLookup(max_ngram=99)])


def test_files_keep_settings(tmp_path):
    spec = Speculator(16, sources=[sources.NgramCache(num_tokens=3), "ouroboros:ngram=3"])
    for _ in range(2):
        spec.start([1, 2, 3, 4, 5]).finish()
    spec.save(tmp_path / "store.safetensors")
    again = Speculator.load(tmp_path / "store.safetensors")
    assert again.config == spec.config
    ours, theirs = (s.propose([s.start([2, 3, 4])]).tokens.tolist() for s in (spec, again))
    assert ours == theirs
    assert len(ours) > 1


def test_a_corpus_serves_three_sources_and_only_its_vocabulary(corpus):
    sources.build_corpus(corpus, [[1, 2, 3, 4, 5], [9, 1, 2, 3, 7], [1, 2, 3, 4, 6]], 64)
    for source in (
        sources.Rest(corpus, store="disk"),
        sources.NgramCache(corpus=corpus),
        sources.Aded(corpus=corpus),
    ):
        spec = Speculator(64, sources=[source])
        batch = spec.propose([spec.start([2, 3])])
        assert batch.tokens.tolist()[:2] == [3, 4], source
        with pytest.raises(InputError, match="vocabulary of 64"):
            Speculator(63, sources=[source])
    with pytest.raises(InputError, match="cannot be read"):
        Speculator(64, sources=[sources.Rest(corpus.with_name("none"))])
    with pytest.raises(InputError, match="corpus="):
        Speculator(64, sources=["rest"])


def test_siblings_in_one_group_read_each_other():
    spec = Speculator(32, sources=["siblings"])
    a, b = (spec.start([1], group="g") for _ in range(2))
    c = spec.start([1], group="h")
    a.commit([5, 6, 7, 8])
    for r in (b, c):
        r.commit([5, 6])
    batch = spec.propose([b, c])
    assert batch.tokens[: batch.cu_nodes[1]].tolist() == [6, 7, 8]
    assert batch.cu_nodes[2] - batch.cu_nodes[1] == 1
