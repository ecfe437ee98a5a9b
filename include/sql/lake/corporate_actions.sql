-- Splits and dividends for DuckDB, day files and year files combined: for each action the row with the newest ingest_ts.
-- As prices.sql:
--   SET VARIABLE lake_corporate_actions = 's3://market-data/raw/corporate_actions/provider=polygon';
--   SELECT * FROM lake_corporate_actions(symbol_key := 'AAPL') WHERE action = 'split' ORDER BY ex_date;
CREATE OR REPLACE TEMP MACRO lake_corporate_actions(symbol_key := '*') AS TABLE
SELECT * EXCLUDE (filename)
  FROM read_parquet(getvariable('lake_corporate_actions') || '/symbol=' || symbol_key || '/**/*.parquet',
                    hive_partitioning = false, union_by_name = true, filename = true)
QUALIFY row_number() OVER (PARTITION BY symbol, provider, ex_date, action, action_id
                           ORDER BY ingest_ts DESC, filename LIKE '%/month=%' DESC) = 1;  -- equally new: the day file's row
