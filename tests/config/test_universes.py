import json
import logging
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data import pipeline
from market_data.airflow import connections
from market_data.airflow.connections import s3_access
from market_data.config import indices, symbols, ticker_files, universes
from market_data.config.universes import Member
from market_data.core import messages
from market_data.core.errors import ConfigError, LakeError, ParamError
from market_data.lake.store import Lake

HEADER = "symbol,added_date,removed_date,source\n"
TODAY = date(2026, 11, 20)


def read(text, source="x"):
    """The symbols that are members today."""
    return tuple(row.symbol for row in ticker_files.read_tickers(text, source=source) if row.on(TODAY))


def load(path, open_s3=None):
    return tuple(row.symbol for row in ticker_files.load_tickers(path, open_s3) if row.on(TODAY))


def test_the_project_has_three_universes():
    assert universes.known() == ("dow30", "es_mes_vix", "etf20", "futures_front", "sp500_etf")
    assert {name: len(universes.members(name)) for name in universes.known()} == {
        "dow30": 30,
        "es_mes_vix": 3,
        "etf20": 20,
        "futures_front": 8,
        "sp500_etf": 523,
    }


@pytest.mark.parametrize("name", sorted(universes.LISTS))
def test_files_equal_the_lists_they_come_from(name):
    expected = universes.LISTS[name]()
    assert universes.members(name) == expected, "run universe.refresh (see its docstring) after an update of pytickersymbols"
    assert list(expected) == sorted(set(expected))
    assert symbols.check_symbols(expected) == []


@pytest.mark.parametrize("name", sorted(universes.LISTS))
def test_files_are_in_the_form_that_is_written(name):
    text = (universes.FOLDER / f"{name}.csv").read_text(encoding="utf-8")
    assert universes.write_members(universes.read_members(text, source=name)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('symbol,name\nAAPL,"Apple\nMSFT,Microsoft\n', "not readable as CSV: unexpected end of data"),
        ('symbol,name\nAAPL,"Apple\nMSFT,"Microsoft"\n', "not readable as CSV: .* expected after"),
        ("symbol\nAAPL\nMSFT,GOOG\n", "line 3 has several cells; the header has one"),
    ],
)
def test_symbols_that_would_be_overlooked_are_an_error(text, words):
    with pytest.raises(ParamError, match=words):
        read(text)
    with pytest.raises(ConfigError, match=words.removeprefix("not readable as CSV: ")):
        universes.read_members(text.replace("symbol", "symbol,added_date,removed_date", 1) if "name" in text else text, source="x")
    assert read("symbol\nAAPL,\nMSFT\n") == ("AAPL", "MSFT")


def test_primary_exchanges_of_all_kinds_of_tables():
    rows = universes.read_members(HEADER.strip() + ",primary_exchange\nES,,,x,NYSE\nA,,,x,\n", source="x")
    assert universes.Universe("x", rows).exchanges == {"ES": "NYSE"}
    assert universes.read_members(universes.write_members(rows), source="x") == universes.in_order(rows)
    tickers = ticker_files.read_tickers("primary_exchange;ticker\nXNYS;ES\n;A\n", source="x")
    assert universes.Universe("x", tickers).exchanges == {"ES": "XNYS"}
    assert universes.read_universe("sp500_etf").exchanges == {"ES": "NYSE"}
    assert "exchange" not in universes.write_members(rows, sources=False)


def test_sp500_etf_holds_the_two_with_a_dot():
    assert {"BRK.B", "BF.B", "AAPL", "SPY"} <= set(universes.members("sp500_etf"))


@pytest.mark.parametrize("name", ["sp500", "", "../universes/dow30", "dow30.csv", "DOW30"])
def test_an_unknown_universe_is_refused_with_the_known_ones(name):
    with pytest.raises(ParamError, match="; known universes: dow30, es_mes_vix, etf20, futures_front, sp500_etf"):
        universes.members(name)


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
    assert universes.members("test", as_of and date.fromisoformat(as_of), tmp_path) == tuple(expected.split())


def test_a_wrong_file_lists_every_problem(tmp_path):
    rows = "AAPL,2020-13-01,,x\nmsft,,,x\nIBM,2021-01-01,2020-01-01,x\nTSLA,,,x\nTSLA,2020-01-01,,x\nBRK.B,,,x\n"
    (tmp_path / "bad.csv").write_text(HEADER + rows)
    with pytest.raises(ConfigError) as caught:
        universes.members("bad", folder=tmp_path)
    message = str(caught.value)
    for part in ("line 2: '2020-13-01' is not a date", "line 3: 'msft'", "line 4: IBM is removed", "TSLA has two rows"):
        assert part in message
    assert "BRK.B" not in message


def test_a_file_without_its_columns_names_them(tmp_path):
    (tmp_path / "bad.csv").write_text("symbol,added\nAAPL,\n")
    with pytest.raises(ConfigError, match="columns added_date, removed_date are missing"):
        universes.members("bad", folder=tmp_path)


def test_update_dates_what_changed():
    day = date(2026, 11, 20)
    first = universes.update([], {"A": "x", "B": "x"}, date(2026, 1, 1))
    assert first == (Member("A", source="x"), Member("B", source="x"))
    second = universes.update(first, {"B": "y", "C": "y"}, day)
    assert second == (Member("A", removed=day, source="x"), Member("B", source="x"), Member("C", added=day, source="y"))
    assert universes.update(second, {"B": "y", "C": "y"}, date(2026, 12, 1)) == second
    assert universes.update(second, {"B": "y"}, day) == second[:2]
    assert [row for row in second if row.on(date(2026, 11, 19))] == [second[0], second[1]]


def test_refresh_starts_without_dates_and_dates_what_follows(tmp_path):
    universes.refresh(date(2026, 11, 20), tmp_path)
    path = tmp_path / "dow30.csv"
    assert path.read_text() == (universes.FOLDER / "dow30.csv").read_text()
    path.write_text(path.read_text().replace("AAPL,,,", "ZZZ,,,"))  # as if ZZZ gave way to AAPL
    universes.refresh(date(2026, 12, 1), tmp_path)
    assert "AAPL,2026-12-01,," in path.read_text()
    assert "ZZZ,,2026-12-01," in path.read_text()
    assert "ZZZ" in universes.members("dow30", date(2026, 11, 30), tmp_path)
    assert universes.members("dow30", date(2026, 12, 1), tmp_path) == universes.members("dow30")


names = st.sampled_from(["A", "B", "C", "BRK.B"])


@given(st.lists(st.sets(names), min_size=1, max_size=8))
def test_updates_keep_every_past_day(lists):
    rows, dates = (), [date(2026, 1, 1 + n) for n in range(len(lists))]
    for day, listed in zip(dates, lists, strict=True):
        rows = universes.update(rows, dict.fromkeys(listed, "x"), day)
        assert {row.symbol for row in rows if row.removed is None} == listed
    known_from = next((n for n, listed in enumerate(lists) if listed), len(lists))
    for day, listed in list(zip(dates, lists, strict=True))[known_from:]:
        assert {row.symbol for row in rows if row.on(day)} == listed
    assert universes.read_members(universes.write_members(rows), source="test") == tuple(
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
    *("BAC.PRK", "BACpK", "BAC PRK", "BAC-PK", "BAC$K", "SBPp", "MKC.V", "MKC V", "MKC-V", "NE.WS.A", "NE+A", "NE WSA"),
    *(
        "AAC+",
        "AAC.WS",
        "AAC-WT",
        "AAC.W",
        "AAC=",
        "AAC.U",
        "AAC-UN",
        "AIIA^",
        "AIIAr",
        "AIIA.RT",
        "AAN#",
        "AANw",
        "AAN WI",
        "BAC-K#",
    ),
    *("ES:STK", "SPX:IND", "CTEST.L", "X.CL"),
]


@pytest.mark.parametrize("symbol", [*LEGAL, "A" * 32])
def test_legal_symbols(symbol):
    assert symbols.symbol_problem(symbol) is None
    assert symbols.check_symbols([symbol]) == []
    assert read(symbol) == (symbol,)


@pytest.mark.parametrize(
    "line",
    [
        *("AAPL MSFT", "AAPL F", "A  B", "aapl msft", "AAPL\tMSFT", "AAPL, MSFT", "AAPL;MSFT", "AAPL MSFT IBM"),
        *("BRK b", "ABCDEF B", "AAPL 240119C00150000", "AAPL  240119X00150000", "AAPL  240119C00150000 B"),
    ],
)
def test_two_symbols_on_a_line_are_refused(line):
    with pytest.raises(ParamError) as caught:
        read(f"IBM\n{line}\n")
    (problem,) = caught.value.problems
    assert problem.startswith(f"x, line 2: {line!r} is not one symbol; one symbol per line is needed")


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
    problems = symbols.check_symbols(["IBM", symbol])
    assert len(problems) == 1
    assert problems[0].startswith("symbols: item 2: ")
    assert problems[0].isprintable()
    assert problems[0].isascii()
    assert len(problems[0]) < 250


def test_lower_case_is_never_changed_but_hinted_at():
    assert "is 'AAPL' meant?" in symbols.check_symbols(["aapl"])[0]
    assert symbols.check_symbols(["KIMpL", "KIMPL"]) == []


@pytest.mark.parametrize("symbol", ["AAC+B+", "aac+", "AAPL#x", "AAPL=1", "ABCDEF+", "A$1", "+AAC", "BRK.B=="])
def test_a_sign_that_is_no_suffix_is_named_with_what_is_allowed(symbol):
    (problem,) = symbols.check_symbols([symbol])
    assert "; + = # and $ only in a known suffix, e.g. AAC+ (warrants), AAC= (units), AAN# (when issued)" in problem


@pytest.mark.parametrize(
    ("one", "other"),
    [("AAC.WS", "AAC+"), ("BACpK", "BAC PRK"), ("BRK.B", "BRK/B"), ("AAC.U", "AAC-UN"), ("NE WSA", "NE.WS.A"), ("ES", "ES:STK")],
)
def test_two_spellings_of_one_stock_are_named_with_both_places(one, other):
    expected = f"symbols: item 3: {other!r} occurs twice, first at symbols: item 1 as {one!r}: two spellings of one stock"
    assert symbols.check_symbols([one, "IBM", other]) == [expected]


def test_a_number_sign_after_a_symbol_is_its_suffix_and_no_comment():
    assert read("AAN# # when issued\nIBM # a comment\n# another\n") == ("AAN#", "IBM")


def test_duplicates_are_reported_with_both_places():
    assert symbols.check_symbols(["A", "B", "A"], "tickers") == ["tickers: item 3: 'A' occurs twice, first at tickers: item 1"]


def test_one_text_is_not_a_list_of_symbols():
    assert symbols.check_symbols("AAPL") == ["symbols is the text 'AAPL'; a list of symbols is needed"]


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
    assert read(text) == ("AAPL", "BRK.B", "KIMpL")


def test_read_tickers_lists_problems_by_line():
    text = "name,symbol\nApple,AAPL\nCalc,=1+1\nNone,\nApple,AAPL\nshort\nBerkshire,BRK.B\n"
    with pytest.raises(ParamError) as caught:
        read(text, source="my.csv")
    problems = caught.value.problems
    assert [problem.split(":")[0] for problem in problems] == [f"my.csv, line {n}" for n in (3, 4, 5, 6)]
    assert "is not a symbol" in problems[0]
    assert "is empty" in problems[1]
    assert "occurs twice, first at my.csv, line 2" in problems[2]


def test_a_control_character_does_not_split_a_line():
    with pytest.raises(ParamError, match=r"line 2: 'AA\\x0bPL' is not a symbol"):
        read("IBM\nAA\x0bPL\n")


def test_a_table_without_the_column_is_refused():
    with pytest.raises(ParamError, match="x, line 1 has the columns 'name, isin'; one named symbol or ticker is needed"):
        read("name,isin\nApple,US0378331005\n")


@pytest.mark.parametrize("text", ["", "\n \n", "# nothing\n", "symbol\n"])
def test_a_file_without_symbols_is_refused(text):
    with pytest.raises(ParamError, match="holds no symbols"):
        read(text)


def test_many_problems_are_cut_short():
    with pytest.raises(ParamError) as caught:
        read("\n".join(f"bad{n}" for n in range(1000)))
    assert len(caught.value.problems) == messages.MAX_PROBLEMS + 1
    assert caught.value.problems[-1] == "and 980 more"


@given(st.text(max_size=60))
def test_any_text_gives_legal_symbols_or_a_param_error(text):
    try:
        found = read(text)
    except ParamError:
        return
    assert found
    assert symbols.check_symbols(found) == []


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("symbol,added_date,removed_date\nAAPL,,\nGONE,2020-01-02,2026-11-19\nTODAY,,2026-11-20\nSOON,,2026-11-21\n", "AAPL SOON"),
        ("symbol,added_date\nAAPL,\nTODAY,2026-11-20\nSOON,2026-11-21\n", "AAPL TODAY"),
        ("symbol,added_date,removed_date\nBACK,2020-01-02,2026-11-19\nBACK,2026-11-21,\nIBM,,\n", "IBM"),  # away today
        ("symbol,removed_date\nBACK,2020-01-02\nBACK,\n", "BACK"),  # left and came back
        ("removed_date;ticker\n;AAPL\n2020-01-02;IBM\n", "AAPL"),
        ("symbol,removed\nAAPL,2020-01-02\n", "AAPL"),  # another column
        ("symbol,removed_date\nAAPL\nIBM,,x,y\n", "AAPL IBM"),  # short and long rows
    ],
)
def test_symbols_that_are_not_members_today_are_left_out(text, symbols):
    assert read(text) == tuple(symbols.split())


@pytest.mark.parametrize("column", ["added_date", "removed_date"])
def test_an_invalid_date_is_reported_with_the_other_problems(column):
    with pytest.raises(ParamError) as caught:
        read(f"symbol,{column}\nAAPL,soon\nIBM,\nmsft,\n")
    first, second = caught.value.problems
    assert first == f"x, line 2: {column} 'soon' is not a date; ISO dates are needed, e.g. 2026-11-02"
    assert second.startswith("x, line 4: 'msft' is not a symbol")


def test_a_comment_with_a_comma_makes_no_table():
    assert read("AAPL  # Apple, Inc.\nIBM\n") == ("AAPL", "IBM")


def test_a_million_symbols_are_refused_at_once_and_in_few_words():
    many = [f"S{n}" for n in range(1_000_000)]
    assert symbols.check_symbols(many) == ["symbols has 1,000,000 symbols; at most 25,000 are allowed"]
    assert symbols.check_symbols(many[: symbols.MAX_SYMBOLS]) == []
    with pytest.raises(ParamError) as caught:
        read("\n".join(many[: symbols.MAX_SYMBOLS + 1]))
    assert caught.value.problems == ("x has 25,001 symbols; at most 25,000 are allowed",)


def test_many_wrong_symbols_of_a_list_are_cut_short():
    assert symbols.check_symbols(["bad"] * 5000)[-1] == "and 4,980 more"


def test_load_tickers_from_a_local_file(tmp_path):
    path = tmp_path / "mine.TXT"
    path.write_bytes(b"\xef\xbb\xbfAAPL\r\nIBM\r\n")
    assert load(str(path)) == ("AAPL", "IBM")


def test_relative_paths_start_at_the_project(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert load("include/universes/dow30.csv") == universes.members("dow30")


def file(folder, name, body="fernet_key = hunter2\n"):
    path = folder / name
    path.write_bytes(body if isinstance(body, bytes) else body.encode())
    return path


def link(folder, name, target):
    (folder / name).symlink_to(target)
    return folder / name


NO_FILE = "there is no such file; relative paths start at the project's folder"
NAME = "the name of a file that ends in .csv or .txt and does not begin with . is needed"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tmp: file(tmp, "airflow.cfg"), NAME),
        (lambda tmp: file(tmp, ".env"), NAME),
        (lambda tmp: file(tmp, ".env.csv"), NAME),
        (
            lambda tmp: link(tmp, "x.csv", file(tmp, "airflow.cfg")),
            NO_FILE,
        ),
        (lambda tmp: link(tmp, "x.csv", file(tmp, ".secrets.csv")), NO_FILE),
        (lambda tmp: link(tmp, "x.csv", tmp / "x.csv"), ""),  # in a circle
        (lambda tmp: tmp / "missing.csv", NO_FILE),
        (lambda tmp: tmp / f"{'x' * 300}.csv", "it cannot be read: File name too long"),
        (lambda tmp: (tmp / "dir.csv", (tmp / "dir.csv").mkdir())[0], NO_FILE),
        (lambda tmp: file(tmp, "x.csv", b"AAPL\nIB\xff\n"), "it is not UTF-8 text: byte 8 is 0xff"),
        (lambda tmp: file(tmp, "x.csv", "symbol\nAAPL\n".encode("utf-16")), "it is not UTF-8 text: byte 1 is 0xff"),
        (lambda tmp: file(tmp, "x.csv", b"A\n" * 600_000), "it has more than 1,000,000 bytes, the most allowed"),
        (lambda tmp: "s3://b/k.csv", "S3 cannot be read here"),
        (lambda tmp: "s3://key:hunter2@b/k.csv", "credentials belong into the connection aws_default"),
        (lambda tmp: "x\x00.csv", NAME),
        (lambda tmp: "", NAME),
    ],
)
def test_load_tickers_refuses(tmp_path, make, message):
    with pytest.raises(ParamError) as caught:
        load(str(make(tmp_path)))
    (problem,) = caught.value.problems
    assert problem.startswith("tickers_path ")
    assert problem.endswith(message)
    assert "hunter2" not in problem


@pytest.fixture(scope="module")
def s3_server():
    from sandbox.s3 import S3Server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = S3Server()
    yield server.endpoint
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """A bucket behind ``aws_default``."""
    import boto3

    extra = {"endpoint_url": s3_server, "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": "AKIDTEST", "password": "not-a-secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    bucket = boto3.resource("s3", aws_access_key_id="a", aws_secret_access_key="b", **extra).Bucket("tickers")
    if bucket.creation_date is None:
        bucket.create()
    return bucket


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbfAAPL\r\nBRK.B\r\n",
        b"# mine\nAAPL\nBRK.B\n",
        b'name,"symbol",removed_date\n"Apple, Inc.",AAPL,\r\nBerkshire,BRK.B,\r\nGone,GONE,2020-01-02\r\n',
        b"Ticker;Name\nAAPL;Apple\nBRK.B;Berkshire\n",
        b"name\tticker\nApple\tAAPL\nBerkshire\tBRK.B\n",
    ],
)
def test_load_tickers_from_s3(bucket, body):
    bucket.put_object(Key="lists/mine.csv", Body=body)
    assert load("s3://tickers/lists/mine.csv", connections.open_s3) == ("AAPL", "BRK.B")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("s3://tickers/missing.csv", "tickers_path is 's3://tickers/missing.csv'; it cannot be read: NoSuchKey"),
        ("s3://no-such-bucket/mine.csv", "tickers_path is 's3://no-such-bucket/mine.csv'; it cannot be read: NoSuchBucket"),
        ("s3://Tickers!/mine.csv", "tickers_path is 's3://Tickers!/mine.csv'; it cannot be read: ParamValidationError"),
        ("s3:///mine.csv", "tickers_path is 's3:///mine.csv'; it cannot be read: ParamValidationError"),
        ("s3://tickers/empty.csv", "'s3://tickers/empty.csv' holds no symbols; "),
        ("s3://tickers/bad.csv", "tickers_path is 's3://tickers/bad.csv'; it is not UTF-8 text: byte 6 is 0xfe"),
        ("s3://tickers/big.csv", "tickers_path is 's3://tickers/big.csv'; it has more than 1,000,000 bytes, the most allowed"),
        (
            "s3://tickers/twice.csv",
            "'s3://tickers/twice.csv', line 4: 'AAPL' occurs twice, first at 's3://tickers/twice.csv', line 2",
        ),
        (
            "s3://tickers/table.csv",
            "'s3://tickers/table.csv', line 1 has the columns 'name, isin'; one named symbol or ticker is needed",
        ),
        ("s3://tickers/.env", f"tickers_path is 's3://tickers/.env'; {NAME}"),
        ("s3://tickers/folder.csv/", f"tickers_path is 's3://tickers/folder.csv/'; {NAME}"),
    ],
)
def test_an_unreadable_s3_file_is_named(bucket, path, message):
    bodies = {
        "empty.csv": b"",
        "bad.csv": b"AAPL\n\xfe",
        "big.csv": b"A\n" * 600_000,
        "twice.csv": b"symbol\nAAPL\nIBM\nAAPL\n",
        "table.csv": b"name,isin\nApple,US0378331005\n",
        ".env": b"KEY=hunter2",
        "folder.csv/": b"",
    }
    name = path.removeprefix("s3://tickers/")
    if name in bodies:
        bucket.put_object(Key=name, Body=bodies[name])
    with pytest.raises(ParamError) as caught:
        load(path, connections.open_s3)
    (problem,) = caught.value.problems
    assert problem.startswith(message)
    assert "hunter2" not in problem


def test_an_unreachable_s3_is_not_a_problem_of_the_params(bucket, monkeypatch):
    extra = {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1", "config_kwargs": {"retries": {"max_attempts": 0}}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", "login": "A", "password": "b", "extra": extra}))
    with pytest.raises(LakeError, match=r"'s3://tickers/mine.csv' cannot be read: EndpointConnectionError"):
        load("s3://tickers/mine.csv", connections.open_s3)


# -- indices -------------------------------------------------------------------------------------------------------------------------


def test_the_first_members_of_an_index_are_added_on_the_day():
    change = indices.update_index(None, ["IBM", "AAPL"], TODAY, source="x")
    assert change.text == "symbol,added_date,removed_date\nAAPL,2026-11-20,\nIBM,2026-11-20,\n"
    assert (change.added, change.removed) == (("AAPL", "IBM"), ())


def test_joining_and_leaving_members_are_dated_and_others_are_unchanged():
    text = "symbol,added_date,removed_date\nAAPL,2026-01-02,\nIBM,2026-01-02,\nOLD,2020-01-02,2021-01-04\n"
    change = indices.update_index(text, ["AAPL", "OLD", "MSFT"], TODAY, source="x")
    assert change.text == (
        "symbol,added_date,removed_date\nAAPL,2026-01-02,\nIBM,2026-01-02,2026-11-20\nMSFT,2026-11-20,\n"
        "OLD,2020-01-02,2021-01-04\nOLD,2026-11-20,\n"
    )
    assert (change.added, change.removed) == (("MSFT", "OLD"), ("IBM",))


def test_equal_members_change_nothing():
    text = "symbol,added_date,removed_date\nAAPL,,\nOLD,,2021-01-04\n"
    assert indices.update_index(text, ["AAPL"], TODAY, source="x") == indices.IndexChange(None)


def test_a_wrong_index_file_is_refused():
    with pytest.raises(ConfigError, match="columns added_date, removed_date are missing"):
        indices.update_index("symbol\nAAPL\n", ["AAPL"], TODAY, source="x")


@given(st.lists(st.sets(names, min_size=1), min_size=1, max_size=8))
def test_an_index_file_tells_every_past_day(lists):
    text = None
    days = [date(2026, 1, 1 + n) for n in range(len(lists))]
    for day, listed in zip(days, lists, strict=True):
        text = indices.update_index(text, listed, day, source="x").text or text
    rows = universes.read_members(text, source="x")
    for day, listed in zip(days, lists, strict=True):
        assert {row.symbol for row in rows if row.on(day)} == listed
    assert read(text) == tuple(sorted(lists[-1]))  # an index file serves as a tickers file


def test_an_index_is_kept_in_the_lake_and_equal_members_write_nothing(bucket):
    lake = Lake.open("s3://tickers/lake", s3_access("aws_default"))
    key = "metadata/indices/mine.csv"
    assert (
        pipeline.record_index(lake, "mine", ["IBM", "AAPL"], date(2026, 11, 19)) == f"{key}: 2 members; new: AAPL, IBM; gone: none"
    )
    first = lake.get(key)
    assert pipeline.record_index(lake, "mine", ["AAPL", "IBM"], TODAY) == f"{key}: 2 members, as before"
    assert lake.get(key) == first
    assert pipeline.record_index(lake, "mine", ["AAPL"], TODAY) == f"{key}: 1 members; new: none; gone: IBM"
    assert lake.get(key).body == b"symbol,added_date,removed_date\nAAPL,2026-11-19,\nIBM,2026-11-19,2026-11-20\n"


def test_two_runs_at_once_lose_no_change_of_an_index(bucket):
    lake = Lake.open("s3://tickers/lake", s3_access("aws_default"))
    get, seen = lake.get, []

    def get_late(key):
        found = get(key)
        if not seen:
            seen.append(key)
            pipeline.record_index(
                Lake.open("s3://tickers/lake", s3_access("aws_default")), "both", ["AAPL", "IBM"], date(2026, 11, 19)
            )
        return found

    lake.get = get_late  # between reading and writing, another run writes
    assert pipeline.record_index(lake, "both", ["AAPL"], TODAY).endswith("1 members; new: none; gone: IBM")
    assert get("metadata/indices/both.csv").body.endswith(b"AAPL,2026-11-19,\nIBM,2026-11-19,2026-11-20\n")


def test_many_changes_of_an_index_are_reported_in_one_short_line(bucket):
    said = pipeline.record_index(
        Lake.open("s3://tickers/lake", s3_access("aws_default")), "big", [f"S{n:03d}" for n in range(500)], TODAY
    )
    assert said.startswith("metadata/indices/big.csv: 500 members; new: S000, S001, ")
    assert said.endswith("S009 and 490 more; gone: none")
