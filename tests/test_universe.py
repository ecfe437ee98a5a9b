from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data import universe
from market_data.errors import ConfigError, ParamError
from market_data.universe import Member

HEADER = "symbol,added_date,removed_date,source\n"


def test_the_project_has_three_universes():
    assert universe.known() == ("dow30", "etf20", "sp500_etf")
    assert {name: len(universe.members(name)) for name in universe.known()} == {"dow30": 30, "etf20": 20, "sp500_etf": 523}


@pytest.mark.parametrize("name", sorted(universe.LISTS))
def test_files_equal_the_lists_they_come_from(name):
    expected = universe.LISTS[name]()
    assert universe.members(name) == expected, "run universe.refresh (see its docstring) after an update of pytickersymbols"
    assert list(expected) == sorted(set(expected))
    assert universe.check_symbols(expected) == []


@pytest.mark.parametrize("name", sorted(universe.LISTS))
def test_files_are_in_the_form_that_is_written(name):
    text = (universe.FOLDER / f"{name}.csv").read_text(encoding="utf-8")
    assert universe.write_members(universe.read_members(text, source=name)) == text


def test_sp500_etf_holds_the_two_with_a_dot():
    assert {"BRK.B", "BF.B", "AAPL", "SPY"} <= set(universe.members("sp500_etf"))


@pytest.mark.parametrize("name", ["sp500", "", "../universes/dow30", "dow30.csv", "DOW30"])
def test_an_unknown_universe_is_refused_with_the_known_ones(name):
    with pytest.raises(ParamError, match="is not known; allowed: dow30, etf20, sp500_etf"):
        universe.members(name)


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [
        ("2019-12-31", "ALWAYS GONE OLD"),
        ("2020-01-01", "ALWAYS BACK NEW OLD"),  # NEW on its first day, GONE no more
        ("2021-06-30", "ALWAYS BACK NEW OLD"),
        ("2021-07-01", "ALWAYS NEW OLD"),  # BACK left
        ("2024-02-29", "ALWAYS BACK NEW"),  # BACK returned; OLD has left
        (None, "ALWAYS BACK NEW"),
    ],
)
def test_members_at_a_point_in_time(tmp_path, as_of, expected):
    rows = "ALWAYS,,,x\nOLD,,2024-02-29,x\nGONE,2000-01-01,2020-01-01,x\nNEW,2020-01-01,,x\n"
    rows += "BACK,2020-01-01,2021-07-01,x\nBACK,2023-01-01,,x\n"
    (tmp_path / "test.csv").write_text(HEADER + rows)
    assert universe.members("test", as_of and date.fromisoformat(as_of), tmp_path) == tuple(expected.split())


def test_a_wrong_file_lists_every_problem(tmp_path):
    rows = "AAPL,2020-13-01,,x\nmsft,,,x\nIBM,2021-01-01,2020-01-01,x\nTSLA,,,x\nTSLA,2020-01-01,,x\nBRK.B,,,x\n"
    (tmp_path / "bad.csv").write_text(HEADER + rows)
    with pytest.raises(ConfigError) as caught:
        universe.members("bad", folder=tmp_path)
    message = str(caught.value)
    for part in ("line 2: '2020-13-01' is not a date", "line 3: 'msft'", "line 4: IBM is removed", "TSLA has two rows"):
        assert part in message
    assert "BRK.B" not in message


def test_a_file_without_its_columns_names_them(tmp_path):
    (tmp_path / "bad.csv").write_text("symbol,added\nAAPL,\n")
    with pytest.raises(ConfigError, match="columns added_date, removed_date are missing"):
        universe.members("bad", folder=tmp_path)


def test_update_dates_what_changed():
    day = date(2026, 11, 20)
    first = universe.update([], {"A": "x", "B": "x"}, date(2026, 1, 1))
    assert first == (Member("A", source="x"), Member("B", source="x"))
    second = universe.update(first, {"B": "y", "C": "y"}, day)
    assert second == (Member("A", removed=day, source="x"), Member("B", source="x"), Member("C", added=day, source="y"))
    assert universe.update(second, {"B": "y", "C": "y"}, date(2026, 12, 1)) == second
    assert universe.update(second, {"B": "y"}, day) == second[:2]
    assert [row for row in second if row.on(date(2026, 11, 19))] == [second[0], second[1]]


def test_refresh_starts_without_dates_and_dates_what_follows(tmp_path):
    universe.refresh(date(2026, 11, 20), tmp_path)
    path = tmp_path / "dow30.csv"
    assert path.read_text() == (universe.FOLDER / "dow30.csv").read_text()
    path.write_text(path.read_text().replace("AAPL,,,", "ZZZ,,,"))  # as if ZZZ gave way to AAPL
    universe.refresh(date(2026, 12, 1), tmp_path)
    assert "AAPL,2026-12-01,," in path.read_text()
    assert "ZZZ,,2026-12-01," in path.read_text()
    assert "ZZZ" in universe.members("dow30", date(2026, 11, 30), tmp_path)
    assert universe.members("dow30", date(2026, 12, 1), tmp_path) == universe.members("dow30")


names = st.sampled_from(["A", "B", "C", "BRK.B"])


@given(st.lists(st.sets(names), min_size=1, max_size=8))
def test_updates_keep_every_past_day(lists):
    rows, dates = (), [date(2026, 1, 1 + n) for n in range(len(lists))]
    for day, symbols in zip(dates, lists, strict=True):
        rows = universe.update(rows, dict.fromkeys(symbols, "x"), day)
        assert {row.symbol for row in rows if row.removed is None} == symbols
    known_from = next((n for n, symbols in enumerate(lists) if symbols), len(lists))
    for day, symbols in list(zip(dates, lists, strict=True))[known_from:]:
        assert {row.symbol for row in rows if row.on(day)} == symbols
    assert universe.read_members(universe.write_members(rows), source="test") == tuple(
        sorted(rows, key=lambda row: (row.symbol, row.added or date.min))
    )


LEGAL = [
    "A",
    "AAPL",
    "BRK.B",
    "BRK-B",
    "BRK/B",
    "BRK B",
    "KIMpL",
    "^GSPC",
    "X:BTC-USD",
    "I:SPX",
    "ES.c.0",
    "7203",
    "AAPL  240119C00150000",
]


@pytest.mark.parametrize("symbol", [*LEGAL, "A" * 32])
def test_legal_symbols(symbol):
    assert universe.symbol_problem(symbol) is None
    assert universe.check_symbols([symbol]) == []
    assert universe.read_tickers(symbol, source="x.txt") == (symbol,)


HOSTILE = [
    *("", " ", "\t", " AAPL", "AAPL ", "AAPL\n", "\ufeffAAPL"),
    *("../x", "..", ".", "A/../B", "A..B", "/etc/passwd", "\\\\host\\x", "C:\\x", "a/b"),
    *("=1+1", "+1", "-1", "@SUM(A1)", '=cmd|"/c calc"!A1', "'AAPL", '"AAPL"'),
    *("AAPL'; DROP TABLE x; --", "A%2FB", "A?apiKey=1", "A&b=1", "A#b", "A*", "A,B", "A;B", "{{ 1 }}", "<b>"),
    *(
        "AA\x00PL",
        "AA\x0bPL",
        "AA\x1fPL",
        "AA\u200bPL",
        "AA\u202ePL",
        "\uff21\uff21\uff30\uff2c",
        "\u0410\u0410PL",
        "AAPL\U0001f4c8",
        "\u0661",
    ),
    *("aapl", "A" * 33, None, 7, float("nan"), True, ["AAPL"], b"AAPL"),
]


@pytest.mark.parametrize("symbol", HOSTILE, ids=ascii)
def test_hostile_symbols_are_refused(symbol):
    problems = universe.check_symbols(["IBM", symbol])
    assert len(problems) == 1
    assert problems[0].startswith("symbols: item 2: ")
    assert problems[0].isprintable()
    assert problems[0].isascii()
    assert len(problems[0]) < 250


def test_lower_case_is_never_changed_but_hinted_at():
    assert "is 'AAPL' meant?" in universe.check_symbols(["aapl"])[0]
    assert universe.check_symbols(["KIMpL", "KIMPL"]) == []


def test_duplicates_are_reported_with_both_places():
    assert universe.check_symbols(["A", "B", "A"], "tickers") == ["tickers: item 3: 'A' is there twice, first at tickers: item 1"]


def test_one_text_is_no_list_of_symbols():
    assert universe.check_symbols("AAPL") == ["symbols is the text 'AAPL'; a list of symbols is needed"]


@pytest.mark.parametrize(
    "text",
    [
        "AAPL\nBRK.B\nKIMpL\n",
        "AAPL\r\nBRK.B\r\nKIMpL",
        "\ufeffAAPL\n\n  BRK.B\t\nKIMpL",
        "# my list\n\nAAPL  # Apple\n#IBM\nBRK.B\nKIMpL",
        "symbol\nAAPL\nBRK.B\nKIMpL\n",
        "Ticker\nAAPL\nBRK.B\nKIMpL\n",
        '# exported\nname,Symbol,weight\n"Apple, Inc.",AAPL,7\nBerkshire, BRK.B ,2\n,,\nKimco,KIMpL,1\n',
        "ticker;name\nAAPL;Apple\nBRK.B;Berkshire\nKIMpL;Kimco\n",
        "name\tsymbol\nApple\tAAPL\nBerkshire\tBRK.B\nKimco\tKIMpL\n",
        'symbol,note\nAAPL,"two\nlines"\nBRK.B,\nKIMpL,\n',
    ],
)
def test_read_tickers(text):
    assert universe.read_tickers(text, source="x") == ("AAPL", "BRK.B", "KIMpL")


def test_read_tickers_lists_problems_by_line():
    text = "name,symbol\nApple,AAPL\nCalc,=1+1\nNone,\nApple,AAPL\nshort\nBerkshire,BRK.B\n"
    with pytest.raises(ParamError) as caught:
        universe.read_tickers(text, source="my.csv")
    problems = caught.value.problems
    assert [problem.split(":")[0] for problem in problems] == [f"my.csv, line {n}" for n in (3, 4, 5, 6)]
    assert "is not a symbol" in problems[0]
    assert "is empty" in problems[1]
    assert "is there twice, first at my.csv, line 2" in problems[2]


def test_a_control_character_does_not_split_a_line():
    with pytest.raises(ParamError, match=r"line 2: 'AA\\x0bPL' is not a symbol"):
        universe.read_tickers("IBM\nAA\x0bPL\n", source="x")


def test_a_table_without_the_column_is_refused():
    with pytest.raises(ParamError, match="line 1: 'name,isin' is not a symbol"):
        universe.read_tickers("name,isin\nApple,US0378331005\n", source="x")


@pytest.mark.parametrize("text", ["", "\n \n", "# nothing\n", "symbol\n"])
def test_a_file_without_symbols_is_refused(text):
    with pytest.raises(ParamError, match="holds no symbols"):
        universe.read_tickers(text, source="x")


def test_many_problems_are_cut_short():
    with pytest.raises(ParamError) as caught:
        universe.read_tickers("\n".join(f"bad{n}" for n in range(1000)), source="x")
    assert len(caught.value.problems) == universe.MAX_PROBLEMS + 1
    assert caught.value.problems[-1] == "and 980 more"


@given(st.text(max_size=60))
def test_any_text_gives_legal_symbols_or_a_param_error(text):
    try:
        symbols = universe.read_tickers(text, source="x")
    except ParamError:
        return
    assert symbols
    assert universe.check_symbols(symbols) == []


def test_load_tickers_from_a_local_file(tmp_path):
    path = tmp_path / "mine.TXT"
    path.write_bytes(b"\xef\xbb\xbfAAPL\r\nIBM\r\n")
    assert universe.load_tickers(str(path)) == ("AAPL", "IBM")


def test_relative_paths_start_at_the_project(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert universe.load_tickers("include/universes/dow30.csv") == universe.members("dow30")


def test_load_tickers_from_s3_asks_the_opener():
    asked = []
    assert universe.load_tickers("s3://b/k.csv", lambda url: asked.append(url) or b"symbol\nAAPL\n") == ("AAPL",)
    assert asked == ["s3://b/k.csv"]


def _secret(tmp_path):
    path = tmp_path / "airflow.cfg"
    path.write_text("fernet_key = hunter2\n")
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tmp: str(_secret(tmp)), "is not a path that ends in .csv or .txt"),
        (lambda tmp: str((tmp / "x.csv", (tmp / "x.csv").symlink_to(_secret(tmp)))[0]), "is not a file"),
        (lambda tmp: str(tmp / "missing.csv"), "is not a file"),
        (lambda tmp: str((tmp / "dir.csv", (tmp / "dir.csv").mkdir())[0]), "is not a file"),
        (lambda tmp: str((tmp / "x.csv", (tmp / "x.csv").write_bytes(b"\xff\xfeA\x00"))[0]), "is not UTF-8"),
        (lambda tmp: str((tmp / "x.csv", (tmp / "x.csv").write_bytes(b"A\n" * 600_000))[0]), "more than 1,000,000 bytes"),
        (lambda tmp: "s3://b/k.csv", "is on S3, which cannot be read here"),
        (lambda tmp: "x\x00.csv", "is not a path"),
        (lambda tmp: "", "is not a path"),
    ],
)
def test_load_tickers_refuses(tmp_path, make, message):
    with pytest.raises(ParamError, match=message) as caught:
        universe.load_tickers(make(tmp_path))
    assert "hunter2" not in str(caught.value)
