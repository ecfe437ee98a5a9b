-- Trades, trades with quotes, and statistics for DuckDB, day and session files combined: for each row that with the newest ingest_ts.
-- As prices.sql: set the folder, then run this file:
--   SET VARIABLE lake_trades = 's3://market-data/raw/trades/provider=databento';   SELECT * FROM lake_trades(symbol_key := 'AAPL');
--   SET VARIABLE lake_tbbo = ...;         SELECT * FROM lake_tbbo(symbol_key := 'AAPL');
--   SET VARIABLE lake_statistics = ...;   SELECT * FROM lake_statistics(symbol_key := 'ES.c.0');
-- DuckDB sorts and filters ts_event in nanoseconds; with SET TimeZone = 'UTC' it shows what is stored.
-- A symbol as in keys, in which * ? and [ ] may stand for others as in paths; one without them is found by the statistics of a large file.
CREATE OR REPLACE TEMP MACRO lake_symbol_is(symbol, symbol_key) AS
  CASE WHEN symbol_key = '*' THEN true
       WHEN NOT regexp_matches(symbol_key, '[*?[]') THEN symbol = url_decode(symbol_key)
       ELSE symbol GLOB url_decode(replace(replace(replace(symbol_key, '%2A', '[*]'), '%3F', '[?]'), '%5B', '[[]')) END;

CREATE OR REPLACE TEMP MACRO lake_trades(symbol_key := '*') AS TABLE
SELECT * EXCLUDE (filename)
  FROM read_parquet([getvariable('lake_trades') || '/symbol=' || symbol_key || '/**/*.parquet',
                     getvariable('lake_trades') || '/year=*/month=*/session-*.parquet'],
                    hive_partitioning = false, union_by_name = true, filename = true, allow_empty = true)
 WHERE lake_symbol_is(symbol, symbol_key)
QUALIFY row_number() OVER (PARTITION BY symbol, provider, ts_event, sequence, ordinal
                           ORDER BY ingest_ts DESC, filename LIKE '%/symbol=%' DESC) = 1;

CREATE OR REPLACE TEMP MACRO lake_tbbo(symbol_key := '*') AS TABLE
SELECT * EXCLUDE (filename)
  FROM read_parquet([getvariable('lake_tbbo') || '/symbol=' || symbol_key || '/**/*.parquet',
                     getvariable('lake_tbbo') || '/year=*/month=*/session-*.parquet'],
                    hive_partitioning = false, union_by_name = true, filename = true, allow_empty = true)
 WHERE lake_symbol_is(symbol, symbol_key)
QUALIFY row_number() OVER (PARTITION BY symbol, provider, ts_event, sequence, ordinal
                           ORDER BY ingest_ts DESC, filename LIKE '%/symbol=%' DESC) = 1;

CREATE OR REPLACE TEMP MACRO lake_statistics(symbol_key := '*') AS TABLE
SELECT * EXCLUDE (filename)
  FROM read_parquet([getvariable('lake_statistics') || '/symbol=' || symbol_key || '/**/*.parquet',
                     getvariable('lake_statistics') || '/year=*/month=*/session-*.parquet'],
                    hive_partitioning = false, union_by_name = true, filename = true, allow_empty = true)
 WHERE lake_symbol_is(symbol, symbol_key)
QUALIFY row_number() OVER (PARTITION BY symbol, provider, ts_event, sequence, ordinal
                           ORDER BY ingest_ts DESC, filename LIKE '%/symbol=%' DESC) = 1;
