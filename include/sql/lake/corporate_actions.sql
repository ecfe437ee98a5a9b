-- Splits and dividends for DuckDB, day files and year files combined: for each action the row with the newest ingest_ts, without those that
-- the vendor has withdrawn. An action is what its values say, under whatever id a file has it: files from before 0.6.0 have the vendors'.
-- As prices.sql:
--   SET VARIABLE lake_corporate_actions = 's3://market-data/raw/corporate_actions/provider=polygon';
--   SELECT * FROM lake_corporate_actions(symbol_key := 'AAPL') WHERE action = 'split' ORDER BY ex_date;
CREATE OR REPLACE TEMP MACRO lake_corporate_actions(symbol_key := '*') AS TABLE
SELECT * EXCLUDE (filename)
  FROM (SELECT * REPLACE (
                 CASE WHEN action = 'split' AND split_to >= split_from AND split_from > 0
                      THEN CAST(floor(round(split_to / split_from * 10000, 6) + 0.5) AS BIGINT) || ':10000'
                      WHEN action = 'split' AND split_to > 0
                      THEN '10000:' || CAST(floor(round(split_from / split_to * 10000, 6) + 0.5) AS BIGINT)
                      WHEN action = 'dividend' AND amount >= 0
                      THEN CAST(floor(round(amount * 1000000, 3) + 0.5) AS BIGINT) || ' ' || upper(coalesce(currency, 'USD')) || ' ' ||
                           CASE WHEN kind IN ('SC', 'LT', 'ST') THEN kind ELSE 'CD' END
                      ELSE action_id END AS action_id)
          FROM (FROM read_parquet(getvariable('lake_corporate_actions') || '/symbol=' || symbol_key || '/**/*.parquet',
                                  hive_partitioning = false, union_by_name = true, filename = true)
                UNION ALL BY NAME
                SELECT CAST(NULL AS BOOLEAN) AS withdrawn WHERE false))  -- files from before 0.6.0 lack the column
QUALIFY row_number() OVER (PARTITION BY symbol, provider, ex_date, action, action_id
                           ORDER BY ingest_ts DESC, filename LIKE '%/month=%' DESC) = 1  -- equally new: the day file's row
    AND withdrawn IS NULL;
