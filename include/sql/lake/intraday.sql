-- Intraday bars for DuckDB, day, session and month files combined: for each bar the row with the newest ingest_ts.
-- As prices.sql: set the folder, then run this file:
--   SET VARIABLE lake_equities_1min = 's3://market-data/raw/equities_1min/provider=alpaca';
--   SELECT * FROM lake_equities_1min(symbol_key := 'AAPL') WHERE session = '2024-01-31';
--   SET VARIABLE lake_bars_5min = ...;   SELECT * FROM lake_bars_5min(symbol_key := 'AAPL');
-- A symbol as in keys, in which * ? and [ ] may stand for others as in paths; one without them is found by the statistics of a large file.
CREATE OR REPLACE TEMP MACRO lake_symbol_is(symbol, symbol_key) AS
  CASE WHEN symbol_key = '*' THEN true
       WHEN NOT regexp_matches(symbol_key, '[*?[]') THEN symbol = url_decode(symbol_key)
       ELSE symbol GLOB url_decode(replace(replace(replace(symbol_key, '%2A', '[*]'), '%3F', '[?]'), '%5B', '[[]')) END;

CREATE OR REPLACE TEMP MACRO lake_equities_1min(symbol_key := '*') AS TABLE
SELECT * EXCLUDE (filename)
  FROM read_parquet([getvariable('lake_equities_1min') || '/symbol=' || symbol_key || '/**/*.parquet',
                     getvariable('lake_equities_1min') || '/year=*/month=*/session-*.parquet'],
                    hive_partitioning = false, union_by_name = true, filename = true, allow_empty = true)
 WHERE lake_symbol_is(symbol, symbol_key)
QUALIFY row_number() OVER (PARTITION BY symbol, timeframe, provider, bar_time
                           ORDER BY ingest_ts DESC, CASE WHEN filename NOT LIKE '%/symbol=%' THEN 1 WHEN filename LIKE '%/data.parquet' THEN 2 ELSE 0 END) = 1;
-- equally new: the day file's row, then the session file's

CREATE OR REPLACE TEMP MACRO lake_bars_5min(symbol_key := '*') AS TABLE
SELECT * EXCLUDE (filename)
  FROM read_parquet([getvariable('lake_bars_5min') || '/symbol=' || symbol_key || '/**/*.parquet',
                     getvariable('lake_bars_5min') || '/year=*/month=*/session-*.parquet'],
                    hive_partitioning = false, union_by_name = true, filename = true, allow_empty = true)
 WHERE lake_symbol_is(symbol, symbol_key)
QUALIFY row_number() OVER (PARTITION BY symbol, timeframe, provider, bar_time
                           ORDER BY ingest_ts DESC, CASE WHEN filename NOT LIKE '%/symbol=%' THEN 1 WHEN filename LIKE '%/data.parquet' THEN 2 ELSE 0 END) = 1;
