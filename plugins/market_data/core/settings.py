"""Every environment variable of this project: one table, the only code that reads them.

The table is in ``core`` and not in ``config`` because ``core.calendar`` and ``core.paths`` read variables too and may import
nothing above them. ``market-data config`` prints the table with its current values; ``docs/reference/settings.md`` is generated from it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """An environment variable.

    :param default: the value where the variable is unset or empty; empty: none.
    :param meaning: one or two sentences for an operator.
    :param used_by: what reads it: ``package`` (every Airflow component, the command, ``market_data.read``), ``command``
        (``market-data`` only) or ``make`` (the local stack only).
    :param secret: the value is never shown.
    """

    name: str
    default: str
    meaning: str
    used_by: str = "package"
    secret: bool = False


SETTINGS = (
    Setting(
        "MARKET_DATA_LAKE",
        "s3://market-data",
        "Root of the lake: s3://bucket[/prefix], or file:///path for one machine without S3.",
    ),
    Setting("RAW_PREFIX", "raw", "First part of the key of every data file in the lake."),
    Setting(
        "MARKET_DATA_ENV",
        "",
        "Name of an environment, e.g. prod: feeds.prod.yaml beside feeds.yaml overrides single keys of it.",
    ),
    Setting(
        "MARKET_DATA_INCLUDE",
        "",
        "Folder with feeds.yaml, universes/ and sql/. Default: include/ of the checkout, else of AIRFLOW_HOME, else the copy in the wheel.",
    ),
    Setting(
        "MARKET_DATA_EXTRA_CLOSURES",
        "",
        "Days on which an exchange closes unforeseen: ISO dates separated by commas, e.g. 2027-03-01,CMES:2027-03-02. A date without "
        "a calendar's name is one of XNYS. Set it for every Airflow component.",
    ),
    Setting(
        "MARKET_DATA_LIMITS",
        "",
        "Folder in which the processes of one host share rate limits. Default: AIRFLOW_HOME, else the temporary folder. Not read where "
        "MARKET_DATA_LIMITER_CONN_ID is set.",
    ),
    Setting(
        "MARKET_DATA_LIMITER_CONN_ID",
        "",
        "Airflow connection (postgres or redis) in which the workers of all hosts share rate limits. Default: each host has its own, "
        "which is right for one host only. A provider connection's extra.limiter_conn_id overrides it.",
    ),
    Setting(
        "MARKET_DATA_SP500_SOURCES",
        "https://en.wikipedia.org/wiki/List_of_S%26P_500_companies "
        "https://raw.githubusercontent.com/datasets/s-and-p-500-companies/main/data/constituents.csv",
        "Addresses of pages or CSV files with the members of the S&P 500, separated by spaces; the first that can be read counts. "
        "file:// and a mirror of your own work too.",
    ),
    Setting(
        "MARKET_DATA_SP500_HISTORY",
        "",
        "Address of a CSV file with memberships of the S&P 500 (ticker, start_date, end_date). Up to its last date it counts instead of "
        "the page's list of changes, which is incomplete.",
    ),
    Setting("MARKET_DATA_NASDAQ100_SOURCES", "https://en.wikipedia.org/wiki/Nasdaq-100", "The same for the Nasdaq-100."),
    Setting("MARKET_DATA_NASDAQ100_HISTORY", "", "The same for the Nasdaq-100."),
    Setting(
        "MARKET_DATA_DOW30_SOURCES",
        "https://en.wikipedia.org/wiki/Dow_Jones_Industrial_Average",
        "The same for the Dow Jones Industrial Average.",
    ),
    Setting("MARKET_DATA_DOW30_HISTORY", "", "The same for the Dow Jones Industrial Average."),
    Setting(
        "MARKET_DATA_DOCS",
        "",
        "Address of the site that make docs writes, where you serve it: error messages link to it. Default: they name the page in the "
        "repository.",
    ),
    Setting("MARKET_DATA_AIRFLOW_URL", "", "Address of the Airflow whose REST API market-data bootstrap uses.", "command"),
    Setting(
        "MARKET_DATA_AIRFLOW_TOKEN",
        "",
        "Token for that REST API. It is read from here only, never from an argument.",
        "command",
        True,
    ),
    Setting("MARKET_DATA_LOCAL_DIR", ".local", "Folder of the local stack: database, warehouse, logs.", "make"),
    Setting("AIRFLOW_PORT", "8080", "Port of the local Airflow.", "make"),
    Setting("S3_PORT", "8580", "Port of the local S3 server.", "make"),
    Setting("SAMPLE_API_PORT", "8581", "Port of the local sample provider API.", "make"),
    Setting("SAMPLE_GATEWAY_PORT", "8582", "Port of the local sample gateway.", "make"),
    Setting("SAMPLE_API_DATA", "", "Folder of recorded prices that the sample provider API serves instead of its own.", "make"),
    Setting("DAG", "polygon_ohlcv_1d", "DAG that make run triggers.", "make"),
    Setting("CONF", "", "Run params of make run, as a JSON object.", "make"),
    Setting("SQL", "", "Statement of make query.", "make"),
    Setting("PYTHON", "", "Python that make install uses for .venv.", "make"),
)

BY_NAME: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}

FOREIGN = ("AIRFLOW_HOME", "AWS_CA_BUNDLE", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION")
"""Variables of other projects that this one reads."""


def value(name: str, environ: Mapping[str, str] | None = None) -> str:
    """Return the value of a variable in the table, or its default where it is unset or empty.

    :param environ: instead of the process's environment.
    :raises KeyError: the variable is not in the table.
    """
    return (os.environ if environ is None else environ).get(name) or BY_NAME[name].default


def foreign(name: str) -> str:
    """Return another project's variable, one of ``FOREIGN``; empty where it is unset.

    :raises KeyError: the variable is not one of them.
    """
    if name not in FOREIGN:
        raise KeyError(name)
    return os.environ.get(name, "")


def environment() -> Mapping[str, str]:
    """Return a copy of the process's environment."""
    return dict(os.environ)


def lend(name: str, text: str) -> None:
    """Set another project's variable for this process and its children, unless it is set."""
    os.environ.setdefault(name, text)


def shown(setting: Setting, environ: Mapping[str, str] | None = None) -> str:
    """Return the current value for people: a secret is ``set`` or empty, never shown."""
    current = value(setting.name, environ)
    return ("set" if current else "") if setting.secret else current
