-- Statements for DuckDB, one row per item. A row is in one file only, so no version is selected.
-- As prices.sql; type_key limits it to one kind of statement: income, balance_sheet or cash_flow.
--   SET VARIABLE lake_fundamentals = 's3://market-data/raw/fundamentals/provider=fmp';
--   SELECT * FROM lake_fundamentals(type_key := 'income', symbol_key := 'AAPL') WHERE item = 'revenue';
-- Values known on a day have session <= that day: period_end is weeks before the filing.
CREATE OR REPLACE TEMP MACRO lake_fundamentals(symbol_key := '*', type_key := '*') AS TABLE
SELECT *
  FROM read_parquet(getvariable('lake_fundamentals') || '/type=' || type_key || '/symbol=' || symbol_key || '/**/*.parquet',
                    hive_partitioning = false, union_by_name = true);
