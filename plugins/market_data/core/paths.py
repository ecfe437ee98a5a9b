"""The locations of the project's own files, and of its pages."""

from __future__ import annotations

from pathlib import Path

from market_data.core import settings

PACKAGE = Path(__file__).resolve().parents[1]
PAGES = "/market-data"
"""The path of the pages, below the address of Airflow."""

PACKAGED = PACKAGE / "_include"
"""The copy of ``include`` that a wheel carries. A checkout and a copied ``plugins`` folder have none."""


def include_folder() -> Path:
    """Return the project's ``include`` folder.

    ``MARKET_DATA_INCLUDE`` comes first, then ``include`` beside ``plugins``, then that of the Airflow home, then the copy in the wheel.
    """
    chosen = settings.value("MARKET_DATA_INCLUDE")
    if chosen:
        return Path(chosen)
    home = settings.foreign("AIRFLOW_HOME")
    beside = PACKAGE.parents[1] / "include"
    places = [] if PACKAGED.is_dir() else [beside]
    places += [Path(home) / "include"] if home else []
    return next((place for place in places if (place / "feeds.yaml").is_file()), PACKAGED if PACKAGED.is_dir() else beside)


INCLUDE = include_folder()
ROOT = INCLUDE.parent if PACKAGED.is_dir() else PACKAGE.parents[1]
"""The project's folder: relative paths in run params start here."""


def sql_folder() -> Path:
    """Return the folder of the project's SQL.

    It belongs to this version of the code, so ``include`` need not have one.
    """
    places = (INCLUDE / "sql", PACKAGED / "sql", PACKAGE.parents[1] / "include" / "sql")
    return next((place for place in places if (place / "migrations").is_dir()), places[0])


def settings_file() -> Path:
    """Return ``airflow_settings.yaml``: that beside ``include``, else the copy in the wheel."""
    beside = INCLUDE.parent / "airflow_settings.yaml"
    return beside if beside.is_file() else PACKAGED / "airflow_settings.yaml"
