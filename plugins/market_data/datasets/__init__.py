"""Datasets: columns, keys, rules and files of each."""
