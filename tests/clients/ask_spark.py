"""Run the code of the Spark page against a lake, and read every dataset; print what was found as JSON.

Arguments: a file with the page's code, in which the lake's path is already put; the lake's folder.
"""

import json
import sys
from pathlib import Path

code, lake = sys.argv[1:]
names: dict = {}
exec(Path(code).read_text(), names)
spark = names["spark"]
found = {}
for folder in sorted(Path(lake, "raw").glob("*/*")):
    rows = spark.read.option("recursiveFileLookup", "true").option("mergeSchema", "true").parquet(str(folder))
    found[str(folder.relative_to(Path(lake, "raw")))] = rows.count(), dict(rows.dtypes)
aapl = names["bars"].where("symbol = 'AAPL' AND session >= '2024-01-01'").select("session", "close").collect()
trade = names["trades"].select("ts_event", "moment", "price").orderBy("sequence").first()
answer = {
    "datasets": found,
    "closes": {str(row["session"]): row["close"] for row in aapl},
    "trade": [trade["ts_event"], trade["moment"].isoformat(), trade["price"]],
}
sys.stdout.write(json.dumps(answer) + "\n")
