"""The commands, from their arguments to output and exit code."""

import json

import pytest
from requests import Response, Session

from market_data.airflow.command import AirflowDeployment
from market_data.airflow.command import main as console_script
from market_data.api import MISSING
from market_data.cli import rest, setup
from market_data.cli.main import main, parser
from market_data.core import settings
from market_data.core.errors import ConfigError
from market_data.core.outcome import State


class Airflow:
    """Connections and pools in memory, and hooks and lake without Airflow's database."""

    def __init__(self, connections=(), pools=()):
        self.made = {"connections": dict.fromkeys(connections), "pools": dict.fromkeys(pools)}
        self.on = {}

    def registry(self):
        return self

    def is_running(self, run):
        return None

    def connections(self):
        return set(self.made["connections"])

    def pools(self):
        return set(self.made["pools"])

    def hosts(self, pool, longest):
        return self.on.get(pool, ())

    def add_connection(self, item):
        self.made["connections"][item["conn_id"]] = item

    def add_pool(self, item):
        self.made["pools"][item["pool_name"]] = item

    def lake(self):
        from market_data.api import open_lake

        return open_lake()

    def warehouse(self):
        raise ConfigError("connection 'warehouse_default' is wrong here")

    def hook(self, provider, conn_id, options):
        from market_data.providers.base import ProviderConfig
        from market_data.providers.registry import provider as hook_of

        return hook_of(provider)(ProviderConfig(conn_id, ""), options=options)


@pytest.fixture
def lake(tmp_path, monkeypatch):
    (tmp_path / "lake").mkdir()
    monkeypatch.setenv("MARKET_DATA_LAKE", f"file://{tmp_path}/lake")
    return tmp_path / "lake"


def run(capsys, *argv, deployment=None):
    code = main(argv, deployment or Airflow())
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def warehouse(tmp_path, capsys):
    path = str(tmp_path / "w.duckdb")
    code, out, _ = run(capsys, "migrate", "--duckdb", path)
    assert (code, "0003_silver_prices" in out) == (0, True)
    return path


def test_migrating_twice_changes_nothing(warehouse, capsys):
    assert run(capsys, "migrate", "--duckdb", warehouse)[:2] == (0, "the warehouse has all tables and views of this version\n")


def test_query_without_a_statement_shows_the_latest_bars(warehouse, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(capsys, "query", "--duckdb", warehouse)
    assert code == 0
    assert out.startswith("symbol  provider")


def test_query_formats(warehouse, capsys):
    statement = "SELECT 1 AS one, DATE '2024-09-16' AS day"
    assert run(capsys, "query", statement, "--duckdb", warehouse, "--csv")[1] == "one,day\n1,2024-09-16\n"
    assert json.loads(run(capsys, "query", statement, "--duckdb", warehouse, "--json")[1]) == [{"one": 1, "day": "2024-09-16"}]
    assert run(capsys, "query", statement, "--duckdb", warehouse, "--vertical")[1] == "-- row 1\none  1\nday  2024-09-16\n"


def test_a_missing_table_lists_those_that_exist(warehouse, capsys):
    code, _, err = run(capsys, "query", "WITH a AS (SELECT 1) SELECT * FROM a JOIN prices ON true", "--duckdb", warehouse)
    assert code == 1
    assert err.startswith("error: there is no table prices; tables and views: action_coverage, bronze_")
    assert "silver_prices" in err


def test_query_changes_nothing(warehouse, capsys):
    code, _, err = run(capsys, "query", "DELETE FROM load_audit", "--duckdb", warehouse)
    assert (code, "a SELECT is needed" in err) == (1, True)


def test_plan_shows_calls_and_fetches_nothing(lake, capsys):
    arguments = ("plan", "mock_ohlcv_1d", "--start", "2024-09-16", "--end", "2024-09-20", "--symbols", "AAPL,MSFT")
    code, out, _ = run(capsys, *arguments)
    assert (code, "2 symbols x 5 sessions" in out) == (0, True)
    assert json.loads(run(capsys, *arguments, "--json")[1])["cells"] == 10
    assert list(lake.rglob("*")) == []


def test_plan_takes_the_run_params(lake, capsys):
    arguments = ("plan", "mock_ohlcv_1d", "--start", "2024-09-16", "--end", "2024-09-20", "--symbols", "AAPL", "--json")
    assert json.loads(run(capsys, *arguments, "--endpoint", "symbol")[1])["calls"] == 1
    assert json.loads(run(capsys, *arguments, "--endpoint", "market")[1])["calls"] == 5


def test_coverage_names_what_is_missing(lake, capsys):
    code, out, _ = run(capsys, "coverage", "mock_ohlcv_1d", "--start", "2024-09-16", "--end", "2024-09-17", "--symbols", "AAPL")
    assert code == 0
    assert out.endswith("1 symbol, 2024-09-16 to 2024-09-17: 2 missing\n")
    rows = run(capsys, "coverage", "mock_ohlcv_1d", "--start", "2024-09-16", "--end", "2024-09-17", "--symbols", "AAPL", "--json")[
        1
    ]
    assert [row["state"] for row in json.loads(rows)] == ["missing", "missing"]


def test_one_wrong_argument_is_one_line(lake, capsys):
    code, _, err = run(capsys, "plan", "nope", "--start", "2024-09-16")
    assert (code, err.count("\n"), err.startswith("error: FEED is 'nope'; feeds: ")) == (2, 1, True)


@pytest.mark.parametrize("command", [["coverage", "mock_ohlcv_1d"], ["plan", "mock_ohlcv_1d"], ["rebuild-warehouse"]])
def test_a_start_after_the_end_is_refused(lake, capsys, command):
    code, _, err = run(capsys, *command, "--start", "2024-09-17", "--end", "2024-09-16")
    assert (code, err) == (2, "error: --start is 2024-09-17 and --end 2024-09-16; the start must not come after the end\n")


def test_an_unknown_state_is_refused_and_the_known_ones_are_those_of_cells(lake, capsys):
    with pytest.raises(SystemExit) as ended:
        run(capsys, "coverage", "mock_ohlcv_1d", "--start", "2024-09-16", "--state", "gone")
    assert ended.value.code == 2
    assert "have" in capsys.readouterr().err
    for state in (*State, MISSING):
        code, _, err = run(capsys, "coverage", "mock_ohlcv_1d", "--start", "2024-09-16", "--symbols", "AAPL", "--state", state)
        assert (code, err) == (0, "")


def test_wrong_arguments_exit_with_2(lake, capsys):
    assert run(capsys, "plan", "nope", "--start", "2024-09-16")[0] == 2
    assert run(capsys, "plan", "mock_ohlcv_1d", "--start", "2024-09-16", "--option", "seed")[0] == 2
    assert run(capsys, "coverage", "mock_ohlcv_1d", "--start", "2024-09-16", "--symbols", "no good")[0] == 2
    for argv in ([], ["plan", "mock_ohlcv_1d", "--start", "16.9."], ["query", "--csv", "--json"], ["nope"]):
        with pytest.raises(SystemExit) as ended:
            main(argv, Airflow())
        assert ended.value.code == 2


def test_bootstrap_creates_what_is_missing_once(capsys):
    airflow = Airflow(pools=["polygon_api"], connections=["aws_default"])
    code, out, _ = run(capsys, "bootstrap", deployment=airflow)
    assert code == 0
    assert "created pool alpaca_api" in out
    assert "pool polygon_api" not in out
    entries = setup.wanted()
    assert airflow.pools() == set(entries["pools"])
    assert airflow.connections() == set(entries["connections"])
    assert run(capsys, "bootstrap", deployment=airflow)[:2] == (0, "nothing to create: all pools and connections exist\n")


def test_check_config_says_what_is_missing_and_how_to_create_it(lake, capsys, monkeypatch):
    monkeypatch.setenv("MARKET_DATA_LAKES", "typo")
    code, out, _ = run(capsys, "check-config", "--problems")
    assert code == 1
    assert "WRONG  pool polygon_api: missing\n       market-data bootstrap creates it" in out
    assert "WRONG  feed polygon_ohlcv_1d: connection polygon_default is missing" in out
    assert "WRONG  variable MARKET_DATA_LAKES: unknown" in out


def test_check_config_checks_each_connection(lake, capsys):
    airflow = Airflow()
    setup.bootstrap(airflow)
    code, out, _ = run(capsys, "check-config", deployment=airflow)
    assert code == 1
    assert "ok     feed mock_ohlcv_1d: valid" in out
    assert "password is empty" in out
    assert "connection 'warehouse_default' is wrong here" in out


def test_check_config_tells_of_several_hosts_with_limits_of_their_own(lake, capsys):
    airflow = Airflow()
    setup.bootstrap(airflow)
    airflow.on = {"mock_api": ["worker-b", "worker-a"], "polygon_api": ["worker-a"]}
    _, out, _ = run(capsys, "check-config", deployment=airflow)
    said = "tasks ran on 2 hosts (worker-a, worker-b), and each host knows its own calls only (feeds mock_ohlcv_1d, "
    assert f"WRONG  rate limits of pool mock_api: {said}" in out
    assert "set MARKET_DATA_LIMITER_CONN_ID, see docs/reference/rate-limits.md" in out
    assert "rate limits of pool polygon_api" not in out


def test_config_lists_every_variable_and_no_secret(capsys, monkeypatch):
    monkeypatch.setenv("MARKET_DATA_AIRFLOW_TOKEN", "hunter2")
    for form in ([], ["--json"], ["--markdown"]):
        code, out, _ = run(capsys, "config", *form)
        assert code == 0
        assert "hunter2" not in out
        assert all(setting.name in out for setting in settings.SETTINGS)


def test_every_command_has_a_help_text():
    (commands,) = [action for action in parser()._actions if getattr(action, "choices", None)]
    expected = {"plan", "coverage", "query", "migrate", "check-config", "bootstrap", "config"}
    assert expected <= set(commands.choices)
    assert all(command.description for command in commands.choices.values())


# -- a real Airflow's database, and its REST API -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A migrated Airflow database, in a process of its own configuration."""
    import os
    import subprocess
    import sys
    from pathlib import Path

    home = tmp_path_factory.mktemp("airflow")
    plugins = Path(__file__).resolve().parents[2] / "plugins"
    env = {**os.environ, "AIRFLOW_HOME": str(home), "PYTHONPATH": str(plugins), "MARKET_DATA_LAKE": f"file://{home}/lake"}
    (home / "lake").mkdir()
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=env, check=True, capture_output=True)

    def command(*argv):
        code = "import sys; from market_data.airflow.command import main; sys.exit(main())"
        return subprocess.run([sys.executable, "-c", code, *argv], env=env, capture_output=True, text=True, check=False)

    return command


@pytest.mark.slow
def test_bootstrap_in_a_real_database_then_the_checks_pass_but_for_keys(database):
    first, second = database("bootstrap"), database("bootstrap")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "created pool polygon_api" in first.stdout
    assert second.stdout == "nothing to create: all pools and connections exist\n"
    checked = database("check-config")
    assert checked.returncode == 1
    assert "ok     feed mock_ohlcv_1d: valid" in checked.stdout
    assert "missing" not in checked.stdout
    planned = database("plan", "mock_ohlcv_1d", "--start", "2024-09-16", "--end", "2024-09-20", "--symbols", "AAPL")
    assert (planned.returncode, "1 symbols x 5 sessions" in planned.stdout) == (0, True), planned.stderr


class Server:
    """An Airflow REST API in two dictionaries, which checks the token and pages of two entries."""

    def __init__(self):
        self.entries = {"connections": {}, "pools": {"default_pool": {"name": "default_pool"}}}

    def request(self, session, method, url, timeout, allow_redirects, params=None, json=None):
        base, kind = url.rsplit("/", 1)
        assert base == "http://127.0.0.1:1/team/api/v2"
        assert timeout
        assert not allow_redirects
        if session.headers["Authorization"] != "Bearer good":
            return respond(403, {})
        if method == "POST":
            self.entries[kind][json.get("name") or json["connection_id"]] = json
            return respond(201, json)
        found = list(self.entries[kind].values())
        return respond(200, {kind: found[params["offset"] :][:2], "total_entries": len(found)})


def respond(status, body):
    response = Response()
    response.status_code = status
    response._content = json.dumps(body).encode()
    return response


@pytest.fixture
def server(monkeypatch):
    found = Server()
    monkeypatch.setattr(Session, "request", lambda session, *args, **more: found.request(session, *args, **more))  # noqa: PLW0108  a bound method would get no session
    return found


def test_bootstrap_over_the_rest_api_twice(server, capsys, monkeypatch):
    monkeypatch.setenv("MARKET_DATA_AIRFLOW_TOKEN", "good")
    arguments = ("bootstrap", "--url", "http://127.0.0.1:1/team/")
    assert run(capsys, *arguments)[0] == 0
    entries = setup.wanted()
    assert set(server.entries["connections"]) == set(entries["connections"])
    assert set(server.entries["pools"]) == {"default_pool", *entries["pools"]}
    assert server.entries["pools"]["mock_api"]["slots"] == 4
    assert json.loads(server.entries["connections"]["polygon_default"]["extra"]) == {"plan": "basic"}
    assert run(capsys, *arguments)[1] == "nothing to create: all pools and connections exist\n"


def test_the_token_is_needed_and_never_shown(server, capsys, monkeypatch):
    monkeypatch.delenv("MARKET_DATA_AIRFLOW_TOKEN", raising=False)
    code, _, err = run(capsys, "bootstrap", "--url", "http://127.0.0.1:1/team")
    assert (code, "MARKET_DATA_AIRFLOW_TOKEN is empty" in err) == (1, True)
    monkeypatch.setenv("MARKET_DATA_AIRFLOW_TOKEN", "hunter2")
    code, out, err = run(capsys, "bootstrap", "--url", "http://127.0.0.1:1/team")
    assert (code, "403" in err, "hunter2" in out + err) == (1, True, False)


@pytest.mark.parametrize("url", ["airflow.example.com", "https://user:secret@host", "file:///x"])
def test_a_wrong_address_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigError, match=r"the Airflow address is wrong") as caught:
        rest.RestRegistry(url, "t")
    assert "secret" not in str(caught.value)


def test_the_console_script_is_the_command_on_this_machines_airflow(capsys):
    assert console_script(["config", "--json"]) == 0
    assert AirflowDeployment().registry() is not None
