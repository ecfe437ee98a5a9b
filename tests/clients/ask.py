"""Ask a server through a vendor's client, and say what it made of the answers as JSON: ``python ask.py {massive|polygon} URL KEY``.

Runs in the environment that test_clients.py makes; nothing of the project can be imported here.
"""

import importlib
import json
import sys

library, url, key = sys.argv[1:]
RESTClient = importlib.import_module(library).RESTClient
client = RESTClient(api_key=key, base=url)


def bar(found):
    return [found.timestamp, found.open, found.high, found.low, found.close, found.volume, found.vwap, found.transactions]


def pages(adjusted, limit):
    found = client.list_aggs("AAPL", 1, "day", "2012-03-01", "2012-03-30", adjusted=adjusted, limit=limit)
    return [bar(one) for one in found]


def grouped(session, who=client):
    return {one.ticker: bar(one) for one in who.get_grouped_daily_aggs(session, adjusted=False)}


def error(session, who=client):
    try:
        return ["nothing", str(grouped(session, who))]
    except Exception as raised:  # noqa: BLE001 - which one it is is the question
        return [type(raised).__name__, str(raised)]


json.dump(
    {
        "paged": pages(True, 5),
        "whole": pages(False, 5000),
        "generated": [bar(one) for one in client.list_aggs("SPY", 1, "day", "2012-03-01", "2012-03-30", adjusted=False)],
        "unknown": [bar(one) for one in client.list_aggs("NOSUCH", 1, "day", "2012-03-01", "2012-03-30")],
        "grouped": grouped("2012-06-01"),
        "closed": grouped("2012-06-02"),
        "wrong key": error("2012-06-01", RESTClient(api_key="wrong", base=url)),
        "forbidden": error("2012-07-02"),
        "not found": error("2012-07-03"),
        "server error": error("2012-07-05"),
        "throttled": error("2012-07-06"),
        "cut": pages(True, 7),
    },
    sys.stdout,
)
