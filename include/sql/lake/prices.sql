-- Daily bars of the lake for DuckDB, day, session and year files combined: for each bar the row with the newest ingest_ts.
-- Set the folder that contains the symbol= folders (provider=* reads all providers), then run this file:
--   SET VARIABLE lake_prices = 's3://market-data/raw/prices/provider=polygon';
--   SELECT * FROM lake_prices() WHERE session >= '2024-01-01';   every symbol: opens every file
--   SELECT * FROM lake_prices(symbol_key := 'A*');               the symbols that begin with A
--   SELECT * FROM lake_prices(symbol_key := 'AAPL');             opens one symbol's files and session files; the symbol as in keys
-- Folder names are not read as columns: the files contain these columns.
-- A symbol as in keys, in which * ? and [ ] may stand for others as in paths; one without them is found by the statistics of a large file.
CREATE OR REPLACE TEMP MACRO lake_symbol_is(symbol, symbol_key) AS
  CASE WHEN symbol_key = '*' THEN true
       WHEN NOT regexp_matches(symbol_key, '[*?[]') THEN symbol = url_decode(symbol_key)
       ELSE symbol GLOB url_decode(replace(replace(replace(symbol_key, '%2A', '[*]'), '%3F', '[?]'), '%5B', '[[]')) END;

CREATE OR REPLACE TEMP MACRO lake_prices(symbol_key := '*') AS TABLE
SELECT * EXCLUDE (filename)
  FROM read_parquet([getvariable('lake_prices') || '/symbol=' || symbol_key || '/**/*.parquet',
                     getvariable('lake_prices') || '/year=*/month=*/session-*.parquet'],
                    hive_partitioning = false, union_by_name = true, filename = true, allow_empty = true)
 WHERE lake_symbol_is(symbol, symbol_key)
QUALIFY row_number() OVER (PARTITION BY symbol, timeframe, provider, bar_time
                           ORDER BY ingest_ts DESC, CASE WHEN filename NOT LIKE '%/symbol=%' THEN 1 WHEN filename LIKE '%/month=%' THEN 0 ELSE 2 END) = 1;
-- equally new: the day file's row, then the session file's
