"""The content of the pages as plain values, from lake, ledger, configuration and reports."""
