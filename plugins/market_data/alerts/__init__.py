"""Tell people what is wrong: one message per cause, none repeated, one all-clear.

``watch`` reads ledger, calendar, reports and audits of the lake, never runs, so that a dead scheduler or a paused DAG is found too.
``reports``, ``audits`` and ``sessions`` read; ``causes`` decides; ``sent`` remembers in the lake who knows of which cause.
"""
