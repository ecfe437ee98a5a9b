"""YAML files are read within limits, and errors show no line of them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        ("a: [" + "*b, " * 2000, "undefined alias"),
        (BOMB, "its aliases make more than 100,000 values"),
        ("a: &a [*a]", "its aliases make more than 100,000 values"),
        ("a: secret\x00", "not YAML"),
        ("? [1, 2]\n: secret\n", "unhashable key"),
        ("a: 2026-13-45", "month must be in 1..12"),
        (b"a: secret \xff", "not UTF-8 text: byte 11 is 0xff"),
    ],
    ids=str,
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
