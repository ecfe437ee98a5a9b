-- Trades, trades with quotes, and statistics for DuckDB. A row is in one file only, so no version is selected.
-- As prices.sql: set the folder, then run this file:
--   SET VARIABLE lake_trades = 's3://market-data/raw/trades/provider=databento';   SELECT * FROM lake_trades(symbol_key := 'AAPL');
--   SET VARIABLE lake_tbbo = ...;         SELECT * FROM lake_tbbo(symbol_key := 'AAPL');
--   SET VARIABLE lake_statistics = ...;   SELECT * FROM lake_statistics(symbol_key := 'ES.c.0');
-- DuckDB sorts and filters ts_event in nanoseconds; with SET TimeZone = 'UTC' it shows what is stored.
CREATE OR REPLACE TEMP MACRO lake_trades(symbol_key := '*') AS TABLE
SELECT *
  FROM read_parquet(getvariable('lake_trades') || '/symbol=' || symbol_key || '/**/*.parquet',
                    hive_partitioning = false, union_by_name = true);

CREATE OR REPLACE TEMP MACRO lake_tbbo(symbol_key := '*') AS TABLE
SELECT *
  FROM read_parquet(getvariable('lake_tbbo') || '/symbol=' || symbol_key || '/**/*.parquet',
                    hive_partitioning = false, union_by_name = true);

CREATE OR REPLACE TEMP MACRO lake_statistics(symbol_key := '*') AS TABLE
SELECT *
  FROM read_parquet(getvariable('lake_statistics') || '/symbol=' || symbol_key || '/**/*.parquet',
                    hive_partitioning = false, union_by_name = true);
