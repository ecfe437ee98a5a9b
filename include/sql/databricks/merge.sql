-- Merge the landing tables into bronze, every version of a value once, and bronze into silver, the current value. Every statement may be
-- repeated, and the script may stop between any two: finished work is not repeated.
--   A version is a key, its values (row_hash, the same SHA-256 as the warehouse's) and when they were first seen (ingest_ts).
--   The current version has the newest ingest_ts; among equally new ones it is the one loaded last; within one load the day file's.
--   Only rows loaded since the target's newest row, less one day, are read: clocks of clusters differ.
USE CATALOG IDENTIFIER(:catalog);
USE SCHEMA IDENTIFIER(:schema);
SET TIME ZONE 'UTC';

MERGE INTO bronze_prices t
USING (
  SELECT symbol, timeframe, provider, bar_time, open_px, high_px, low_px, close_px, adj_close_px, volume, vwap, trade_count, row_hash,
         load_id, ingest_ts, loaded_at
    FROM (SELECT symbol, timeframe, provider, bar_time, open_px, high_px, low_px, close_px, adj_close_px, volume, vwap, trade_count,
                 sha2(concat_ws('|', CAST(CAST(open_px * 100000000 AS DECIMAL(38,0)) AS STRING),
                                     CAST(CAST(high_px * 100000000 AS DECIMAL(38,0)) AS STRING),
                                     CAST(CAST(low_px * 100000000 AS DECIMAL(38,0)) AS STRING),
                                     CAST(CAST(close_px * 100000000 AS DECIMAL(38,0)) AS STRING),
                                     COALESCE(CAST(CAST(adj_close_px * 100000000 AS DECIMAL(38,0)) AS STRING), ''),
                                     COALESCE(CAST(CAST(volume * 100000000 AS DECIMAL(38,0)) AS STRING), ''),
                                     COALESCE(CAST(CAST(vwap * 100000000 AS DECIMAL(38,0)) AS STRING), ''),
                                     COALESCE(CAST(trade_count AS STRING), '')), 256) AS row_hash,
                 load_id, ingest_ts, loaded_at
            FROM (SELECT symbol, timeframe, provider, CAST(bar_time AS TIMESTAMP_NTZ) AS bar_time, CAST(open AS DECIMAL(20,8)) AS open_px,
                         CAST(high AS DECIMAL(20,8)) AS high_px, CAST(low AS DECIMAL(20,8)) AS low_px,
                         CAST(close AS DECIMAL(20,8)) AS close_px, CAST(adj_close AS DECIMAL(20,8)) AS adj_close_px,
                         CAST(volume AS DECIMAL(20,8)) AS volume, CAST(vwap AS DECIMAL(20,8)) AS vwap, trade_count,
                         source_file AS load_id, CAST(ingest_ts AS TIMESTAMP_NTZ) AS ingest_ts, CAST(landed_at AS TIMESTAMP_NTZ) AS loaded_at
                    FROM landed_prices
                   WHERE CAST(landed_at AS TIMESTAMP_NTZ) >= (SELECT COALESCE(MAX(loaded_at), TIMESTAMP_NTZ'2000-01-01') - INTERVAL 1 DAY FROM bronze_prices)) typed) hashed
 QUALIFY ROW_NUMBER() OVER (PARTITION BY symbol, timeframe, provider, bar_time, ingest_ts, row_hash
                            ORDER BY loaded_at, CASE WHEN load_id NOT LIKE '%/symbol=%' THEN 1 WHEN load_id LIKE '%-____-__-__.parquet' THEN 0 ELSE 2 END, load_id) = 1
) s
   ON (t.symbol = s.symbol AND t.timeframe = s.timeframe AND t.provider = s.provider AND t.bar_time = s.bar_time AND
       t.ingest_ts = s.ingest_ts AND t.row_hash = s.row_hash)
 WHEN NOT MATCHED THEN INSERT (symbol, timeframe, provider, bar_time, open_px, high_px, low_px, close_px, adj_close_px, volume, vwap,
                               trade_count, row_hash, load_id, ingest_ts, loaded_at)
      VALUES (s.symbol, s.timeframe, s.provider, s.bar_time, s.open_px, s.high_px, s.low_px, s.close_px, s.adj_close_px, s.volume, s.vwap,
              s.trade_count, s.row_hash, s.load_id, s.ingest_ts, s.loaded_at);

MERGE INTO silver_prices t
USING (
  SELECT symbol, timeframe, provider, bar_time, open_px, high_px, low_px, close_px, adj_close_px, volume, vwap, trade_count, row_hash,
         load_id, ingest_ts, loaded_at
    FROM bronze_prices
   WHERE loaded_at >= (SELECT COALESCE(MAX(loaded_at), TIMESTAMP_NTZ'2000-01-01') - INTERVAL 1 DAY FROM silver_prices)
 QUALIFY ROW_NUMBER() OVER (PARTITION BY symbol, timeframe, provider, bar_time
                            ORDER BY ingest_ts DESC, loaded_at DESC, CASE WHEN load_id NOT LIKE '%/symbol=%' THEN 1 WHEN load_id LIKE '%-____-__-__.parquet' THEN 0 ELSE 2 END, row_hash) = 1
) s
   ON (t.symbol = s.symbol AND t.timeframe = s.timeframe AND t.provider = s.provider AND t.bar_time = s.bar_time)
 WHEN MATCHED AND (s.ingest_ts > t.ingest_ts OR (s.ingest_ts = t.ingest_ts AND s.row_hash <> t.row_hash)) THEN UPDATE SET
      open_px = s.open_px, high_px = s.high_px, low_px = s.low_px, close_px = s.close_px, adj_close_px = s.adj_close_px, volume = s.volume,
      vwap = s.vwap, trade_count = s.trade_count, row_hash = s.row_hash, load_id = s.load_id, ingest_ts = s.ingest_ts,
      loaded_at = s.loaded_at
 WHEN NOT MATCHED THEN INSERT (symbol, timeframe, provider, bar_time, open_px, high_px, low_px, close_px, adj_close_px, volume, vwap,
                               trade_count, row_hash, load_id, ingest_ts, loaded_at)
      VALUES (s.symbol, s.timeframe, s.provider, s.bar_time, s.open_px, s.high_px, s.low_px, s.close_px, s.adj_close_px, s.volume, s.vwap,
              s.trade_count, s.row_hash, s.load_id, s.ingest_ts, s.loaded_at);

MERGE INTO bronze_corporate_actions t
USING (
  SELECT symbol, provider, action_type, ex_date, action_id, split_from, split_to, cash_amount, currency, declaration_date, record_date,
         pay_date, action_kind, frequency, withdrawn, row_hash, load_id, ingest_ts, loaded_at
    FROM (SELECT symbol, provider, action_type, ex_date, action_id, split_from, split_to, cash_amount, currency, declaration_date,
                 record_date, pay_date, action_kind, frequency, withdrawn,
                 CASE WHEN withdrawn IS NULL THEN row_hash ELSE sha2(concat_ws('|', row_hash, CAST(withdrawn AS STRING)), 256) END AS row_hash,
                 load_id, ingest_ts, loaded_at
            FROM (SELECT symbol, provider, action_type, ex_date, action_id, split_from, split_to, cash_amount, currency, declaration_date,
                 record_date, pay_date, action_kind, frequency, withdrawn,
                 sha2(concat_ws('|', COALESCE(CAST(CAST(split_from * 100000000 AS DECIMAL(38,0)) AS STRING), ''),
                                     COALESCE(CAST(CAST(split_to * 100000000 AS DECIMAL(38,0)) AS STRING), ''),
                                     COALESCE(CAST(CAST(cash_amount * 100000000 AS DECIMAL(38,0)) AS STRING), ''),
                                     COALESCE(REPLACE(REPLACE(currency, '\\', '\\\\'), '|', '\\|'), ''),
                                     COALESCE(CAST(unix_date(declaration_date) AS STRING), ''),
                                     COALESCE(CAST(unix_date(record_date) AS STRING), ''),
                                     COALESCE(CAST(unix_date(pay_date) AS STRING), ''),
                                     COALESCE(REPLACE(REPLACE(action_kind, '\\', '\\\\'), '|', '\\|'), ''),
                                     COALESCE(CAST(frequency AS STRING), '')), 256) AS row_hash,
                 load_id, ingest_ts, loaded_at
            FROM (SELECT symbol, provider, action AS action_type, ex_date,
                         CASE WHEN action = 'split' AND split_to >= split_from AND split_from > 0
                              THEN CAST(CAST(FLOOR(ROUND(split_to / split_from * 10000, 6) + 0.5) AS BIGINT) AS STRING) || ':10000'
                              WHEN action = 'split' AND split_to > 0
                              THEN '10000:' || CAST(CAST(FLOOR(ROUND(split_from / split_to * 10000, 6) + 0.5) AS BIGINT) AS STRING)
                              WHEN action = 'dividend' AND amount >= 0
                              THEN CAST(CAST(FLOOR(ROUND(amount * 1000000, 3) + 0.5) AS BIGINT) AS STRING) || ' ' ||
                                   UPPER(COALESCE(NULLIF(currency, ''), 'USD')) || ' ' || CASE WHEN kind IN ('SC', 'LT', 'ST') THEN kind ELSE 'CD' END
                              ELSE action_id END AS action_id,
                         CAST(split_from AS DECIMAL(20,8)) AS split_from,
                         CAST(split_to AS DECIMAL(20,8)) AS split_to, CAST(amount AS DECIMAL(20,8)) AS cash_amount,
                         NULLIF(currency, '') AS currency, declaration_date, record_date, pay_date, NULLIF(kind, '') AS action_kind,
                         frequency, CAST(withdrawn AS INT) AS withdrawn,
                         source_file AS load_id, CAST(ingest_ts AS TIMESTAMP_NTZ) AS ingest_ts, CAST(landed_at AS TIMESTAMP_NTZ) AS loaded_at
                    FROM landed_corporate_actions
                   WHERE CAST(landed_at AS TIMESTAMP_NTZ) >= (SELECT COALESCE(MAX(loaded_at), TIMESTAMP_NTZ'2000-01-01') - INTERVAL 1 DAY FROM bronze_corporate_actions)) typed) hashed) marked
 QUALIFY ROW_NUMBER() OVER (PARTITION BY symbol, provider, action_type, ex_date, action_id, ingest_ts, row_hash
                            ORDER BY loaded_at, CASE WHEN load_id LIKE '%-____-__-__.parquet' THEN 0 ELSE 1 END, load_id) = 1
) s
   ON (t.symbol = s.symbol AND t.provider = s.provider AND t.action_type = s.action_type AND t.ex_date = s.ex_date AND
       t.action_id = s.action_id AND t.ingest_ts = s.ingest_ts AND t.row_hash = s.row_hash)
 WHEN NOT MATCHED THEN INSERT (symbol, provider, action_type, ex_date, action_id, split_from, split_to, cash_amount, currency,
                               declaration_date, record_date, pay_date, action_kind, frequency, withdrawn, row_hash, load_id, ingest_ts, loaded_at)
      VALUES (s.symbol, s.provider, s.action_type, s.ex_date, s.action_id, s.split_from, s.split_to, s.cash_amount, s.currency,
              s.declaration_date, s.record_date, s.pay_date, s.action_kind, s.frequency, s.withdrawn, s.row_hash, s.load_id, s.ingest_ts, s.loaded_at);

MERGE INTO silver_corporate_actions t
USING (
  SELECT symbol, provider, action_type, ex_date, action_id, split_from, split_to, cash_amount, currency, declaration_date, record_date,
         pay_date, action_kind, frequency, withdrawn, row_hash, load_id, ingest_ts, loaded_at
    FROM bronze_corporate_actions
   WHERE loaded_at >= (SELECT COALESCE(MAX(loaded_at), TIMESTAMP_NTZ'2000-01-01') - INTERVAL 1 DAY FROM silver_corporate_actions)
 QUALIFY ROW_NUMBER() OVER (PARTITION BY symbol, provider, action_type, ex_date, action_id
                            ORDER BY ingest_ts DESC, loaded_at DESC, CASE WHEN load_id LIKE '%-____-__-__.parquet' THEN 0 ELSE 1 END, row_hash) = 1
) s
   ON (t.symbol = s.symbol AND t.provider = s.provider AND t.action_type = s.action_type AND t.ex_date = s.ex_date AND t.action_id = s.action_id)
 WHEN MATCHED AND (s.ingest_ts > t.ingest_ts OR (s.ingest_ts = t.ingest_ts AND s.row_hash <> t.row_hash)) THEN UPDATE SET
      split_from = s.split_from, split_to = s.split_to, cash_amount = s.cash_amount, currency = s.currency,
      declaration_date = s.declaration_date, record_date = s.record_date, pay_date = s.pay_date, action_kind = s.action_kind,
      frequency = s.frequency, withdrawn = s.withdrawn, row_hash = s.row_hash, load_id = s.load_id, ingest_ts = s.ingest_ts, loaded_at = s.loaded_at
 WHEN NOT MATCHED THEN INSERT (symbol, provider, action_type, ex_date, action_id, split_from, split_to, cash_amount, currency,
                               declaration_date, record_date, pay_date, action_kind, frequency, withdrawn, row_hash, load_id, ingest_ts, loaded_at)
      VALUES (s.symbol, s.provider, s.action_type, s.ex_date, s.action_id, s.split_from, s.split_to, s.cash_amount, s.currency,
              s.declaration_date, s.record_date, s.pay_date, s.action_kind, s.frequency, s.withdrawn, s.row_hash, s.load_id, s.ingest_ts, s.loaded_at);
