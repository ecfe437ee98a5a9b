-- Changes of symbols for DuckDB, day files and year files combined: for each change the row with the newest ingest_ts, without those that the
-- vendor has withdrawn. As prices.sql:
--   SET VARIABLE lake_symbol_changes = 's3://market-data/raw/symbol_changes/provider=polygon';
--   SELECT * FROM lake_symbol_changes(symbol_key := 'META') ORDER BY effective_date;
CREATE OR REPLACE TEMP MACRO lake_symbol_changes(symbol_key := '*') AS TABLE
SELECT * EXCLUDE (filename)
  FROM read_parquet(getvariable('lake_symbol_changes') || '/symbol=' || symbol_key || '/**/*.parquet',
                    hive_partitioning = false, union_by_name = true, filename = true)
QUALIFY row_number() OVER (PARTITION BY symbol, provider, effective_date, old_symbol, new_symbol
                           ORDER BY ingest_ts DESC, filename LIKE '%/month=%' DESC) = 1  -- equally new: the day file's row
    AND withdrawn IS NULL;
