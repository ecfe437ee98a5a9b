"""The style check finds each fault that it names, and nothing in text that keeps the rules."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "check_style.py"
LONG = "word " * 35 + "end."


@pytest.fixture(scope="module")
def style():
    """The script as a module."""
    import sys

    spec = importlib.util.spec_from_file_location("check_style", SCRIPT)
    module = sys.modules["check_style"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rules(style, tmp_path, name, text):
    file = tmp_path / name
    file.write_text(text)
    return [finding.rule for finding in style.check([file])]


@pytest.mark.parametrize(
    ("docstring", "rule"),
    [
        ("Returns the bars.", "imperative"),
        ("The bars of a symbol.", "imperative"),
        ("Path of a file.", "imperative"),
        ("``bars`` as a table.", "imperative"),
        ("Return " + "x" * 100 + ".", "first-line"),
        ("Return it.\n\n    Of a symbol the bars.", "opening"),
        ("Return it.\n\n    " + LONG, "long"),
        ("Return what stands.", "word"),
    ],
)
def test_faulty_docstring_is_found(style, tmp_path, docstring, rule):
    assert rules(style, tmp_path, "a.py", f'def bars():\n    """{docstring}"""\n') == [rule]


@pytest.mark.parametrize(
    "source",
    [
        'def bars():\n    """Return the bars of a symbol."""\n',
        'def bars():\n    """Process a page."""\n',
        'def _bars():\n    """Bars of a page."""\n',
        'class A:\n    @property\n    def bars(self):\n        """The bars."""\n',
        f'def bars():\n    """Return it::\n\n        {LONG}\n    """\n',
        "# Of this line nothing is reported  # style: ignore\n",
        'raise ValueError("password is not a key (expected 32 characters)")\n',
        'raise ValueError("there is no such file")\n',
        'x = "SELECT answer FROM t WHERE asked"\n',
    ],
)
def test_good_python_has_no_findings(style, tmp_path, source):
    assert rules(style, tmp_path, "a.py", source) == []


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("x = 1  # what landed\n", "word"),
        ("# Whether it is so is open.\n", "opening"),
        ('raise ValueError(f"{x} is no number of a page")\n', "word"),
        ('X = 1\n"""Calls a minute."""\n', "word"),
    ],
)
def test_faulty_comment_or_message_is_found(style, tmp_path, source, rule):
    assert rules(style, tmp_path, "a.py", source) == [rule]


def test_markdown_is_checked_outside_of_code(style, tmp_path):
    text = (
        "# What a run does\n\n```sh\n# what was asked\n```\n\n| a | what landed |\n|---|---|\n\n* Of bars\n* `asked`\n\nWhat now?\n"
    )
    assert rules(style, tmp_path, "a.md", text) == ["word", "opening"]


def test_of_the_changelog_the_newest_version_is_checked(style, tmp_path):
    assert rules(style, tmp_path, "CHANGELOG.md", "# Changes\n\n## 2\n\n* It landed.\n\n## 1\n\n* It landed.\n") == ["word"]


def test_yaml_comments_are_checked(style, tmp_path):
    assert rules(style, tmp_path, "a.yaml", "a: asked  # Once per day.\n# Where it is asked\n") == ["opening", "word"]


def test_exit_status_tells_findings(style, tmp_path, capsys):
    good, bad = tmp_path / "good.md", tmp_path / "bad.md"
    good.write_text("Fine.\n")
    bad.write_text("It landed.\n")
    assert [style.main([str(file)]) for file in (good, bad)] == [0, 1]
    assert capsys.readouterr().out.splitlines()[-1] == "1 findings"
