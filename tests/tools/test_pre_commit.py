"""The pre-commit hooks are those of ``make lint``, and need no network."""

import re
from pathlib import Path

import yaml

PROJECT = Path(__file__).parents[2]
CHECKS = re.compile(r"-m (ruff check|ruff format|mypy|codespell_lib)|(tools/check_style\.py)")


def test_hooks_are_local_and_those_of_make_lint():
    (repository,) = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [hook["entry"] for hook in repository["hooks"]]
    lint = re.search(r"^lint:.*?(?=^\S|\Z)", (PROJECT / "Makefile").read_text(), re.MULTILINE | re.DOTALL)[0]
    assert repository["repo"] == "local"
    assert all(
        entry.startswith(".venv/bin/python ") and hook["language"] == "system"
        for entry, hook in zip(entries, repository["hooks"], strict=True)
    )
    assert {match for entry in entries for match in CHECKS.findall(entry)} == set(
        CHECKS.findall(lint.replace("-m ruff format --check", "-m ruff format"))
    )
