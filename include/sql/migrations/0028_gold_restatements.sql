-- What changed, when, and by which run: of each bar of bronze_prices with several versions a row for each after the first, with the
-- values before it, computed when read. Versions follow each other by the moment they were first seen; of two seen at one moment the one
-- loaded last is the later one. One that came late, after a newer one, stands in its place all the same, though it never was in
-- silver_prices. Written for DuckDB, PostgreSQL 15+ and Oracle 19c+ alike.
--   old_.., new_..       the values of the version before, and of this one
--   restated_at          when this version was loaded
--   dag_id, run_id       the run that loaded it; null of loads before these were kept, or by hand. load_audit has those of old_load_id
CREATE VIEW gold_restatements AS
SELECT v.symbol, v.timeframe, v.provider, v.bar_time,
       CAST(v.old_open_px AS DECIMAL(20,8)) AS old_open_px, v.open_px AS new_open_px,
       CAST(v.old_high_px AS DECIMAL(20,8)) AS old_high_px, v.high_px AS new_high_px,
       CAST(v.old_low_px AS DECIMAL(20,8)) AS old_low_px, v.low_px AS new_low_px,
       CAST(v.old_close_px AS DECIMAL(20,8)) AS old_close_px, v.close_px AS new_close_px,
       CAST(v.old_adj_close_px AS DECIMAL(20,8)) AS old_adj_close_px, v.adj_close_px AS new_adj_close_px,
       CAST(v.old_volume AS DECIMAL(20,8)) AS old_volume, v.volume AS new_volume,
       CAST(v.old_vwap AS DECIMAL(20,8)) AS old_vwap, v.vwap AS new_vwap,
       CAST(v.old_trade_count AS BIGINT) AS old_trade_count, v.trade_count AS new_trade_count,
       v.old_ingest_ts, v.ingest_ts AS new_ingest_ts,
       v.old_load_id, v.load_id AS new_load_id,
       v.loaded_at AS restated_at,
       l.dag_id, l.run_id
  FROM (SELECT b.symbol, b.timeframe, b.provider, b.bar_time,
               b.open_px, b.high_px, b.low_px, b.close_px, b.adj_close_px, b.volume, b.vwap, b.trade_count,
               b.row_hash, b.load_id, b.ingest_ts, b.loaded_at,
               LAG(b.open_px) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_open_px,
               LAG(b.high_px) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_high_px,
               LAG(b.low_px) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_low_px,
               LAG(b.close_px) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_close_px,
               LAG(b.adj_close_px) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_adj_close_px,
               LAG(b.volume) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_volume,
               LAG(b.vwap) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_vwap,
               LAG(b.trade_count) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_trade_count,
               LAG(b.row_hash) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_row_hash,
               LAG(b.ingest_ts) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_ingest_ts,
               LAG(b.load_id) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_load_id
          FROM bronze_prices b) v
  LEFT JOIN load_audit l ON (l.load_id = v.load_id)
 WHERE v.old_row_hash IS NOT NULL AND v.old_row_hash <> v.row_hash
