"""The ways in: the wheel in a clean environment, the image's lock, and what the Astro CLI requires of a project."""

import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[1]
MANIFEST = tomllib.loads((PROJECT / "pyproject.toml").read_text())
DOCKERFILE = (PROJECT / "Dockerfile").read_text()

# -- Astro CLI -----------------------------------------------------------------------------------------------------------------------


def base_image():
    """Return image and tag of the first FROM, read as the Astro CLI reads them: no build argument is filled in."""
    (line,) = re.findall(r"(?im)^FROM\s+(\S+)", DOCKERFILE)
    image, _, tag = line.rpartition(":")
    return image, tag


def test_astro_1_finds_its_project_file():
    assert yaml.safe_load((PROJECT / ".astro" / "config.yaml").read_text())["project"]["name"]


@pytest.mark.parametrize(
    "name",
    ["dags", "plugins", "include", "tests/dags", "Dockerfile", "packages.txt", "requirements.txt", "airflow_settings.yaml",
     "dags/.airflowignore", ".dockerignore", ".env.example", ".astro/test_dag_integrity_default.py",
     ".astro/dag_integrity_exceptions.txt"],
)  # fmt: skip
def test_the_project_has_what_the_cli_expects(name):
    assert (PROJECT / name).exists()


def test_the_base_image_is_literal_and_has_a_full_tag():
    image, tag = base_image()
    assert "$" not in image + tag
    assert image in {"astrocrpublic.azurecr.io/runtime", "apache/airflow"}
    assert re.fullmatch(r"3\.\d+-\d+(-python-3\.\d+)?-base|3\.\d+\.\d+(-python3\.\d+)?", tag)


def test_the_airflow_of_image_lock_and_manifest_is_one():
    _, tag = base_image()
    (pinned,) = [line for line in MANIFEST["project"]["dependencies"] if line.startswith("apache-airflow==")]
    release = re.match(r"apache-airflow==(\d+\.\d+\.\d+)", pinned)[1]
    assert f"apache-airflow=={release}" in (PROJECT / "requirements.lock").read_text().split()
    assert f"FROM apache/airflow:{release}" in DOCKERFILE
    assert tag.startswith(".".join(release.split(".")[:2]))


def test_astro_2_reads_the_table_and_builds_this_dockerfile():
    assert MANIFEST["tool"]["astro"] == {"dockerfile": "Dockerfile"}


def test_the_image_runs_as_a_user_who_owns_none_of_the_code():
    users = re.findall(r"(?m)^USER\s+(\S+)", DOCKERFILE)
    assert users == ["root", "50000"]  # root for the system's packages only
    steps = DOCKERFILE[DOCKERFILE.index("USER 50000") :]
    assert re.findall(r"(?m)^(COPY --\S+|ADD|RUN ch(?:own|mod)).*$", steps) == []
    assert all(name in steps for name in ("COPY include", "COPY plugins", "COPY dags"))


def test_secrets_stay_out_of_git_and_of_the_image():
    assert ".env" in (PROJECT / ".gitignore").read_text().splitlines()
    sent = (PROJECT / ".dockerignore").read_text().splitlines()
    assert sent[0] == "*"
    assert not {"!.env", "!.", "!.git"} & set(sent)


def test_what_the_dockerfile_copies_is_sent_to_the_build():
    sent = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name.rstrip("/") for line in re.findall(r"(?m)^COPY (.*) \S+$", DOCKERFILE) for name in line.split()}
    assert copied <= sent
    assert all((PROJECT / name).exists() for name in copied)


# -- lock ----------------------------------------------------------------------------------------------------------------------------


LOCKS = {
    "requirements": 250,
    "requirements-image": 50,
    "requirements-audit": 30,
    "benchmarks/requirements": 30,
    "tests/fuzz/requirements": 0,
    "tests/clients/requirements": 20,
}


def test_all_locks_are_known_and_audited():
    found = subprocess.run(["git", "ls-files", "*.lock"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split()
    assert sorted(found) == sorted(f"{name}.lock" for name in LOCKS)
    audited = re.search(r"for lock in (.*?); do", (PROJECT / "Makefile").read_text().replace("\\\n", " "))[1].split()
    assert sorted(audited) == sorted(found)


@pytest.mark.parametrize(("lock", "fewest"), LOCKS.items())
def test_a_lock_has_a_hash_for_each_package(lock, fewest):
    packages = re.split(r"(?m)^(?=[^\s#])", (PROJECT / f"{lock}.lock").read_text())[1:]
    assert len(packages) > fewest
    assert [block.split()[0] for block in packages if "==" not in block or "--hash=sha256:" not in block] == []


def test_the_lock_of_the_image_has_no_airflow():
    names = set(re.findall(r"(?m)^([^\s=]+)==", (PROJECT / "requirements-image.lock").read_text()))
    assert not {"apache-airflow", "apache-airflow-core", "apache-airflow-task-sdk", "sqlalchemy", "fastapi"} & names


def test_the_lock_of_the_image_has_every_requirement():
    lines = [
        *(PROJECT / "requirements.txt").read_text().splitlines(),
        *(PROJECT / "requirements-image.in").read_text().splitlines(),
    ]
    wanted = {re.split(r"[\[<>=]", line)[0].replace("_", "-").lower() for line in lines if line and line[0] not in "#-"}
    locked = {line.split("==")[0] for line in (PROJECT / "requirements-image.lock").read_text().splitlines() if "==" in line}
    assert wanted - locked == set()


def test_the_extra_airflow_is_requirements_txt():
    lines = [line for line in (PROJECT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert MANIFEST["project"]["optional-dependencies"]["airflow"] == lines


# -- wheel ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "venv", str(folder / "builder")]
    subprocess.run(command, check=True)
    pip = [str(folder / "builder" / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(PROJECT)], check=True)
    (found,) = folder.glob("*.whl")
    return found


STATIC = PROJECT / "plugins" / "market_data" / "airflow" / "web" / "static"


def test_the_chart_library_has_its_license_and_its_notice_is_on_the_page():
    """Apache-2.0 4(a) and (d), and TradingView's own condition: the notice and a link where people see them."""
    (library,) = STATIC.glob("*.standalone.production.js")
    head, name = library.read_text()[:300], library.name.partition(".")[0]
    assert "Licensed under Apache License 2.0" in head
    license_text, notice = ((STATIC / f"{name}.{kind}.txt").read_text() for kind in ("LICENSE", "NOTICE"))
    assert "Version 2.0, January 2004" in license_text
    assert "END OF TERMS AND CONDITIONS" in license_text
    (product, years, link) = re.fullmatch(r"(.+)\n\S+ \S+ (.+) (https://\S+)\n", notice).groups()
    page = (STATIC / "prices.js").read_text()
    assert f"{product}, Copyright {years} " in page
    assert f'href: "{link}"' in page


@pytest.mark.slow
def test_the_wheel_has_the_package_its_data_and_nothing_else(wheel):
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    for path in STATIC.iterdir():
        assert archive.read(f"market_data/airflow/web/static/{path.name}") == path.read_bytes()
    licenses = {Path(name).name for name in names if ".dist-info/licenses/" in name}
    assert licenses == {"LICENSE", "lightweight-charts.LICENSE.txt", "lightweight-charts.NOTICE.txt"}
    assert {name.split("/")[0].split("-")[0] for name in names} == {"market_data", "airflow_market_data"}
    assert {"market_data/py.typed", "market_data/_include/feeds.yaml", "market_data/_include/airflow_settings.yaml"} <= set(names)


READ = """
import sys, time
begin = time.perf_counter()
import market_data
light = time.perf_counter() - begin
market_data.read
import market_data.lake.reader, market_data.datasets.bars
ready = time.perf_counter() - begin
from datetime import date, datetime, timedelta, UTC
import pyarrow as pa
from market_data.core import calendar
from market_data.datasets.bars import OHLCV_1D
from market_data.lake.layout import Layout
from market_data.lake.store import Lake
from market_data.lake.writer import land
days = calendar.sessions(date(2024, 1, 1), date(2025, 1, 1))
constant = dict(symbol="AAPL", timeframe="1d", open=9.0, high=11.0, low=8.0, close=10.0, volume=1.0, provider="polygon",
                ingest_ts=datetime(2025, 1, 2, tzinfo=UTC))
rows = [{**constant, "session": day, "bar_time": datetime(day.year, day.month, day.day, tzinfo=UTC)} for day in days]
table = pa.Table.from_pylist(rows, schema=OHLCV_1D.schema)
land(Lake.open(sys.argv[1]), Layout(), OHLCV_1D, "polygon", table, "day", refetch=True)
begin = time.perf_counter()
found = market_data.read("AAPL", "2024-01-01", "2024-12-31", provider="polygon", lake=sys.argv[1])
taken = time.perf_counter() - begin
cells = market_data.coverage("AAPL", "2024-01-01", "2024-12-31", provider="polygon", lake=sys.argv[1])
assert len(found) == len(cells) == len(days) == 252
assert not [name for name in sys.modules if name.partition(".")[0] in ("airflow", "pandas", "scipy")]
print(f"{light:.3f} {ready:.3f} {taken:.3f}")
"""


def absent(names):
    """Return the start of a script in which the packages ``names`` cannot be imported."""
    return f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def test_reading_imports_nothing_but_the_packages_of_its_extra(tmp_path):
    extras = MANIFEST["project"]["optional-dependencies"]
    others = {re.split(r"[>=\[]", line)[0].replace("-", "_") for line in (*extras["airflow"], *extras["plan"])}
    names = others - {re.split(r"[>=\[]", line)[0] for line in extras["read"]} - {"pyyaml", "airflow_market_data"} | {"airflow"}
    assert {"structlog", "msgspec", "duckdb", "pandas"} < names
    command = [sys.executable, "-c", absent(names) + READ, f"file://{tmp_path}/lake"]
    done = subprocess.run(command, cwd=PROJECT / "plugins", env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_reading_works_in_a_clean_environment_without_airflow(wheel, tmp_path):
    venv.create(tmp_path / "clean", with_pip=True)
    python = str(tmp_path / "clean" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", f"{wheel}[read]"], check=True)
    done = subprocess.run(
        [python, "-c", READ, f"file://{tmp_path}/lake"], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    light, ready, taken = map(float, done.stdout.split())
    assert (light < 0.05 * BUSY, ready < 0.5 * BUSY, taken < 1 * BUSY) == (True, True, True), done.stdout
    command = subprocess.run(
        [str(tmp_path / "clean" / "bin" / "market-data"), "config"], env={}, capture_output=True, text=True, check=False
    )
    assert (command.returncode, "MARKET_DATA_LAKE" in command.stdout) == (0, True), command.stderr


BUSY = 4
"""How much slower than an idle one the machine of the tests may be."""
