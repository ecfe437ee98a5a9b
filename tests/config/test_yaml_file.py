"""YAML files are read within limits, and errors show no line of them."""

from contextlib import nullcontext, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.config import yaml_file
from market_data.config.feeds import load_feeds
from market_data.config.yaml_file import DEEPEST_YAML, LARGEST_YAML, read_yaml
from market_data.core.errors import ConfigError
from market_data.core.messages import shown

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
FEED = "feeds: [{provider: polygon, dataset: ohlcv-1d, universe: etf20, start_date: 2012-01-03, params: PARAMS}]"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "feeds.yaml"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\npassword: first\npassword: secret\n", "line 3: the key 'password' is there twice"),
        ("a: {b: 1, c: 2, b: secret}", "line 1: the key 'b' is there twice"),
        ("1: a\n0x1: b\n", "line 2: the key 1 is there twice"),
        ("[" * 5000, f"line 1: more than {DEEPEST_YAML} levels"),
        ("- " * 900 + "secret", f"line 1: more than {DEEPEST_YAML} levels"),
        ("x" * (LARGEST_YAML + 1), "more than 1,000,000 bytes"),
        ("a: [" + "*b, " * 2000 + "]", "undefined alias"),
        ("- a\n" * 100_000, "line 100000: more than 100,000 values"),
        (BOMB, "its aliases make more than 100,000 values"),
        ("a: &a [*a]", "its aliases make more than 100,000 values"),
        ("a: secret\x00", "not YAML"),
        ("? [1, 2]\n: secret\n", "unhashable key"),
        ("a: 2026-13-45", "line 1: a date that does not exist, a number that is too long"),
        (
            "a: 1\npassword: !!int secret",
            "line 2: a date that does not exist, a number that is too long, or a value that does not fit its tag",
        ),
        ("a: =", "line 1: a value has an unknown tag, or begins with ! or is = or <<"),
        ("a: " + "9" * 5000, "line 1: a date that does not exist, a number that is too long"),
        ("a: 1\npassword: !secret", "line 2: a value has an unknown tag, or begins with ! or is = or << and has no quotes"),
        ("a: 1\npassword: *secret", "line 2: found undefined alias"),
        ("a: 1\npassword: !secret!x y", "line 2: found undefined tag handle"),
        ("a: &secret 1\nb: &secret 2\nc: [", "line 3"),
        ("a: 1\npassword: [secret", "line 2"),
        ("a:\n\tb: 1", r"line 2: found character '\\t' that cannot start any token"),
        ("password: !%C0%AFsecret x", "while scanning a tag: line 1"),
        (b"a: secret \xff", "not UTF-8 text: byte 11 is 0xff"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_named_and_no_line_is_shown(path, text, message):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message) as caught:
        read_yaml(path)
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="feeds.yaml cannot be read"):
        load_feeds(path)


def test_merges_and_byte_order_marks_are_no_problem(path):
    path.write_bytes(b"\xef\xbb\xbfbase: &b {x: 1}\nother: {<<: *b, x: 2}\n")
    assert read_yaml(path) == {"base": {"x": 1}, "other": {"x": 2}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{symbols:[A, B]}", {"symbols": ["A", "B"]}),
        ("{params:{a: 1}, b:}", {"params": {"a": 1}, "b": None}),
        ("%YAML 1.3\n---\na: 1", {"a": 1}),
        ("", None),
        ("# a comment only", None),
    ],
)
def test_what_one_parser_refuses_and_the_other_reads_is_read(path, text, value):
    path.write_text(text)
    assert read_yaml(path) == value


@pytest.mark.parametrize("loader", ["libyaml", "python"])
@pytest.mark.parametrize("kind", ["{open}", "{open}x"])
def test_as_many_levels_as_allowed_are_read(path, monkeypatch, loader, kind):
    if loader == "python":
        monkeypatch.setattr(yaml_file, "_Quick", yaml_file._Plain)
    levels = DEEPEST_YAML - kind.endswith("x")
    for more in (0, 1):
        path.write_text(kind.format(open="[" * (levels + more)) + "]" * (levels + more))
        with pytest.raises(ValueError, match="levels") if more else nullcontext():
            read_yaml(path)


@given(text=st.text(max_size=60) | st.text(alphabet="[]{}:,-&*?|>!#%@ab12 \n\t'\"", max_size=60))
def test_any_text_is_read_or_an_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with suppress(ValueError):
        read_yaml(path)


@pytest.mark.parametrize("params", ["{1: 2}", "{[1]: 2}", "{null: 2}", "{true: 1}", "{1.5: 1}"])
def test_a_param_whose_name_is_no_text_is_named(path, params):
    path.write_text(FEED.replace("PARAMS", params))
    with pytest.raises(ConfigError, match="is unknown|unhashable"):
        load_feeds(path)


def test_a_large_value_is_shown_short():
    endless = []
    endless.append(endless)
    deep = []
    for _ in range(5000):
        deep = [deep]
    wide = ["x"] * 9
    for _ in range(20):
        wide = [wide] * 9
    for value in (endless, deep, wide, {"a": wide}, "x" * 10**6, 10**5000, [10**5000], b"x" * 10**6):
        assert len(shown(value)) <= 60
