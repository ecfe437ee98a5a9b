-- Intraday bars for DuckDB, day files and month files combined: for each bar the row with the newest ingest_ts.
-- As prices.sql: set the folder, then run this file:
--   SET VARIABLE lake_equities_1min = 's3://market-data/raw/equities_1min/provider=alpaca';
--   SELECT * FROM lake_equities_1min(symbol_key := 'AAPL') WHERE session = '2024-01-31';
--   SET VARIABLE lake_bars_5min = ...;   SELECT * FROM lake_bars_5min(symbol_key := 'AAPL');
CREATE OR REPLACE TEMP MACRO lake_equities_1min(symbol_key := '*') AS TABLE
SELECT * EXCLUDE (filename)
  FROM read_parquet(getvariable('lake_equities_1min') || '/symbol=' || symbol_key || '/**/*.parquet',
                    hive_partitioning = false, union_by_name = true, filename = true)
QUALIFY row_number() OVER (PARTITION BY symbol, timeframe, provider, bar_time
                           ORDER BY ingest_ts DESC, filename NOT LIKE '%/data.parquet' DESC) = 1;  -- equally new: the day file's row

CREATE OR REPLACE TEMP MACRO lake_bars_5min(symbol_key := '*') AS TABLE
SELECT * EXCLUDE (filename)
  FROM read_parquet(getvariable('lake_bars_5min') || '/symbol=' || symbol_key || '/**/*.parquet',
                    hive_partitioning = false, union_by_name = true, filename = true)
QUALIFY row_number() OVER (PARTITION BY symbol, timeframe, provider, bar_time
                           ORDER BY ingest_ts DESC, filename NOT LIKE '%/data.parquet' DESC) = 1;
