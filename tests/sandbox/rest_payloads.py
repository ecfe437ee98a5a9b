"""What Airflow's REST API returned for a run of four batches, two symbols each, recorded and cut to what is read."""

RUN = {
    "dag_run_id": "make_run__2026-11-20T21:33:10.941585",
    "state": "running",
    "start_date": "2026-11-20T21:33:11.992544Z",
    "end_date": None,
}


def instance(task_id, state, map_index=-1, start=None, label=None):
    return {
        "task_id": task_id,
        "map_index": map_index,
        "state": state,
        "start_date": start,
        "end_date": None,
        "rendered_map_index": label,
    }


def batch(number, *symbols):
    return {"id": f"b{number:03}-fd4d162e", "blocks": [{"symbols": list(symbols), "intervals": [["2013-02-04", "2013-02-05"]]}]}


def receipt(number, rows=2, quarantined=0, calls=1, failed=None, sources=("recorded+generated",)):
    counts = {"calls": calls, "rows_landed": rows, "rows_quarantined": quarantined}
    return {"batch_id": f"b{number:03}-fd4d162e", **counts, "failed": failed or {}, "sources": list(sources)}


PLAN = [batch(0, "AAPL", "IBM"), batch(1, "AAPL", "IBM"), batch(2, "SPY", "QQQ"), batch(3, "SPY", "QQQ")]
INSTANCES = [
    instance("plan", "success", start="2026-11-20T21:33:16.510498Z"),
    instance("check", None),
    instance("load", None),
    instance("publish", None),
    instance("verdict", None),
    instance("fetch", "success", 0, "2026-11-20T21:33:20.000000Z", "b000 AAPL +1"),
    instance("fetch", "failed", 1, "2026-11-20T21:33:24.000000Z", "b001 AAPL +1"),
    instance("fetch", "running", 2, "2026-11-20T21:33:28.000000Z", "b002 SPY +1"),
    instance("fetch", None, 3),
]
