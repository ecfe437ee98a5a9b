"""Where `include` is found: in a checkout, beside a copied `plugins`, in an Airflow home, in a wheel."""

import pytest

from market_data.core import paths


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A site-packages with a wheel's package, and an Airflow home; neither has an `include` yet."""
    package, home = tmp_path / "site" / "plugins" / "market_data", tmp_path / "home"
    monkeypatch.setattr(paths, "PACKAGE", package)
    monkeypatch.setattr(paths, "PACKAGED", package / "_include")
    monkeypatch.setenv("AIRFLOW_HOME", str(home))
    monkeypatch.delenv("MARKET_DATA_INCLUDE", raising=False)
    return package, home


def fill(folder):
    folder.mkdir(parents=True)
    (folder / "feeds.yaml").write_text("")
    return folder


def test_a_copied_plugins_folder_takes_the_include_beside_it(places):
    package, home = places
    fill(home / "include")
    beside = fill(package.parents[1] / "include")
    assert paths.include_folder() == beside


def test_a_wheel_takes_the_include_of_the_airflow_home_before_its_own_copy(places):
    package, home = places
    packaged = fill(package / "_include")
    fill(package.parents[1] / "include")  # beside site-packages: somebody else's
    assert paths.include_folder() == packaged
    assert paths.include_folder() != fill(home / "include") == paths.include_folder()


def test_the_variable_wins(places, monkeypatch, tmp_path):
    package, _ = places
    fill(package.parents[1] / "include")
    monkeypatch.setenv("MARKET_DATA_INCLUDE", str(tmp_path / "mine"))
    assert paths.include_folder() == tmp_path / "mine"


def test_an_include_without_sql_takes_the_sql_of_the_package(places, monkeypatch, tmp_path):
    package, _ = places
    (package / "_include" / "sql" / "migrations").mkdir(parents=True)
    monkeypatch.setattr(paths, "INCLUDE", fill(tmp_path / "mine"))
    assert paths.sql_folder() == package / "_include" / "sql"
