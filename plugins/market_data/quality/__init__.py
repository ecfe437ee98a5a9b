"""What may land and what may be loaded.

``gate`` runs inside every fetch task: each row as received either is good or goes to quarantine with all its reasons.
``checkpoint`` runs once a run, over what landed: each planned session, and where whole years are asked for each symbol's year, may be
loaded or is refused, with the observed values. ``partitions`` tells which rows and cells that concerns.
Rules and thresholds stand in tables: ``gate.RULES``, ``suites.rows_suite``, ``suites.session_rules``, ``suites.year_rules``.
"""
