"""One Airflow DAG for each feed of include/feeds.yaml.

### What it does
`plan` works out which bars are missing and how to ask for them with the fewest calls. `fetch`, a task for each batch, asks the provider
under its pool and lands Parquet. `check` runs the Great Expectations checkpoint. `load` brings what passed into the warehouse. `publish`
writes coverage and the run report. `verdict` is red when anything planned is missing or refused, and says what.

### How to use it
* **Every day**: unpause it. Each session is fetched after its close, and so is what is missing in the week before.
* **Some dates**: *Trigger*, with first and last session. What is covered already is not asked again, unless *Fetch again* is ticked.
* **What would it cost?** *Trigger* with *Dry run*: the log of `plan` shows batches, calls, minutes, rows and cost.
* **Fetch dates again**: clear their runs; exactly their sessions are asked again, corrected values replace, equal ones change nothing.
* **A batch failed**: clear that one task of `fetch`, with *downstream*. The others stay as they are.
"""

from market_data.airflow.dag import build_dag
from market_data.config.feeds import load_feeds

# Airflow parses only files that name both "airflow" and "dag".
for feed in load_feeds():
    dag = build_dag(feed, __doc__)
    globals()[dag.dag_id] = dag
