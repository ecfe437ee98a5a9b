"""One Airflow DAG for each feed of include/feeds.yaml.

### What it does
`plan` finds the missing bars and the fewest calls that fetch them. `fetch` runs once per batch in the provider's pool and writes Parquet.
`check` runs the Great Expectations checkpoint. `load` loads what passed into the warehouse. `publish` writes coverage and the run report.
`verdict` is red if anything planned is missing or refused, and lists it.

### How to use it
* **Every day**: unpause it. Each session is fetched after its close, with what is missing in the week before.
* **Some dates**: *Trigger*, with first and last session. Covered cells are not fetched again, unless *Fetch again* is ticked.
* **The cost first**: *Trigger* with *Dry run*: the note of the run shows calls, minutes, rows and
  cost; the log of `plan` has each batch.
* **Fetch dates again**: clear their runs. Exactly their sessions are fetched again: corrected values replace, equal values change
  nothing.
* **A batch failed**: clear that one task of `fetch`, with *downstream*. The others stay as they are.
"""

from airflow.sdk import get_parsing_context

from market_data.airflow.dag import build_dag
from market_data.config.feeds import load_feeds

# A task's process makes its own DAG only. Airflow parses only files that name both "airflow" and "dag".
own = get_parsing_context().dag_id
for feed in load_feeds():
    if own in (None, feed.dag_id):
        dag = build_dag(feed, __doc__)
        globals()[dag.dag_id] = dag
