"""The README: its snippets run as printed, its links lead somewhere, its limits hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
PAGES = [*DOCUMENTS, *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_readme_stays_short() -> None:
    assert len(README.splitlines()) < 150
    assert len(SNIPPETS) == 3
    assert max(len(s.splitlines()) for s in SNIPPETS) <= 8


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["speculator", "grammar", "voter"])
def test_snippet_runs(snippet: str) -> None:
    exec(compile(snippet, "README.md", "exec"), {})


def test_snippets_print_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    exec(SNIPPETS[2], {})
    printed = capsys.readouterr().out
    assert printed.startswith("42 [Done(")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"
