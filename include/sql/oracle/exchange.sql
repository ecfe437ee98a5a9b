-- Optional, for DBAs; nothing runs it. It builds a year of silver_prices from bronze_prices beside the old one, and exchanges them
-- instantly. For tables of partitioned.sql. Stop the loads first (pool warehouse to 0 slots): rows that they write to that year meanwhile
-- are lost. The year must have its partition, which exists once the year has a bar. 12.2 to 26ai; each statement commits.
CREATE TABLE silver_prices_2024 FOR EXCHANGE WITH TABLE silver_prices;

INSERT /*+ APPEND */ INTO silver_prices_2024
      (symbol, timeframe, provider, bar_time, open_px, high_px, low_px, close_px, adj_close_px, volume, vwap, trade_count,
       row_hash, load_id, ingest_ts, loaded_at)
SELECT v.symbol, v.timeframe, v.provider, v.bar_time,
       v.open_px, v.high_px, v.low_px, v.close_px, v.adj_close_px, v.volume, v.vwap, v.trade_count,
       v.row_hash, v.load_id, v.ingest_ts, v.loaded_at
  FROM (SELECT b.*,
               ROW_NUMBER() OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts DESC, b.loaded_at DESC) AS newest
          FROM bronze_prices b
         WHERE b.bar_time >= TIMESTAMP '2024-01-01 00:00:00' AND b.bar_time < TIMESTAMP '2025-01-01 00:00:00') v
 WHERE v.newest = 1;

COMMIT;

ALTER TABLE silver_prices_2024 ADD CONSTRAINT silver_prices_2024_pk PRIMARY KEY (symbol, timeframe, provider, bar_time) USING INDEX COMPRESS 3;

ALTER TABLE silver_prices_2024 ADD CONSTRAINT silver_prices_2024_ck CHECK (high_px >= low_px AND volume >= 0);

ALTER TABLE silver_prices EXCHANGE PARTITION FOR (TIMESTAMP '2024-06-01 00:00:00') WITH TABLE silver_prices_2024 INCLUDING INDEXES WITHOUT VALIDATION;

DROP TABLE silver_prices_2024 PURGE;
