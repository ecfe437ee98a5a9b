"""As ask.py, through fmp-data, which is not the vendor's own client: ``python ask_fmp.py URL KEY``."""

import json
import sys
from datetime import date

from fmp_data import FMPDataClient

url, key = sys.argv[1:]
client = FMPDataClient(api_key=key, base_url=url, max_retries=1)
FIRST, LAST = date(2012, 3, 1), date(2012, 3, 30)


def bars(found):
    return [[f"{bar.date:%Y-%m-%d}", bar.open, bar.high, bar.low, bar.close, bar.volume] for bar in found.historical]


def adjusted(found):
    return [
        [f"{bar.date:%Y-%m-%d}", bar.adj_open, bar.adj_high, bar.adj_low, bar.adj_close, bar.volume] for bar in found.historical
    ]


def statements(found):
    days = [[f"{day:%Y-%m-%d}" for day in (one.date, one.filing_date)] for one in found]
    return [[one.symbol, *some, str(one.fiscal_year), one.period, one.net_income] for one, some in zip(found, days, strict=True)]


def error(ask):
    try:
        return ["nothing", str(ask())]
    except Exception as raised:  # noqa: BLE001 - which one it is is the question
        return [type(raised).__name__, str(raised)]


company, fundamental, batch = client.company, client.fundamental, client.batch
json.dump(
    {
        "full": bars(company.get_historical_prices("AAPL", FIRST, LAST)),
        "raw": adjusted(company.get_historical_prices_non_split_adjusted("BRK-B", FIRST, LAST)),
        "unknown": bars(company.get_historical_prices("NOSUCH", FIRST, LAST)),
        "bulk": {
            bar.symbol: [f"{bar.date}"[:10], bar.open, bar.high, bar.low, bar.close, bar.adj_close, bar.volume]
            for bar in batch.get_eod_bulk(date(2012, 6, 1))
        },
        "income": statements(fundamental.get_income_statement("BRK-B", period="quarter", limit=6)),
        "income bulk": statements(batch.get_income_statement_bulk(2012, "FY")),
        "wrong key": error(
            lambda: FMPDataClient(api_key="wrong", base_url=url, max_retries=1).company.get_historical_prices("AAPL")
        ),
        "cut": len(batch.get_eod_bulk(date(2012, 7, 2))),
    },
    sys.stdout,
)
