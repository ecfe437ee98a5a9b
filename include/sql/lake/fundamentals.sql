-- Statements for DuckDB, a row an item. A row is in one file only, so there is nothing to choose between.
-- As prices.sql, and type_key opens one kind of statement only: income, balance_sheet or cash_flow.
--   SET VARIABLE lake_fundamentals = 's3://market-data/raw/fundamentals/provider=fmp';
--   SELECT * FROM lake_fundamentals(type_key := 'income', symbol_key := 'AAPL') WHERE item = 'revenue';
-- What was known on a day is what has session <= that day: period_end is weeks before anybody knew.
CREATE OR REPLACE TEMP MACRO lake_fundamentals(symbol_key := '*', type_key := '*') AS TABLE
SELECT *
  FROM read_parquet(getvariable('lake_fundamentals') || '/type=' || type_key || '/symbol=' || symbol_key || '/**/*.parquet',
                    hive_partitioning = false, union_by_name = true);
