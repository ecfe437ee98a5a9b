"""What may land and what may be loaded.

``gate`` runs inside every fetch task: each row as received either is good or goes to quarantine with all its reasons.
``checkpoint`` runs once a run, over what landed: each planned session, and where whole years are asked for each symbol's year, may be
loaded or is refused, with the observed values. ``partitions`` tells which rows and cells that concerns.
The rules of rows are each dataset's own (``datasets``); those of sessions and symbol-years, and the thresholds, stand in ``suites``.
"""
