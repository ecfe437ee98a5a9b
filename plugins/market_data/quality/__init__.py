"""Decide which rows may be written to the lake, and which partitions may be loaded into the warehouse.

``gate`` runs inside every fetch task: each received row is either good or goes to quarantine with all its reasons.
``checkpoint`` runs once per run over the stored rows: each planned session, and each symbol's year where a run is by year, may be loaded
or is refused, with the observed values. ``verdicts`` finds the rows and cells that a verdict concerns.
Each dataset declares the rules of its rows (``datasets``); ``suites`` holds those of sessions and symbol-years, and the thresholds.
"""
