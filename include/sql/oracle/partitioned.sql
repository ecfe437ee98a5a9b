-- Optional, for DBAs; nothing runs it. It creates bronze_prices and silver_prices in yearly partitions of bar_time before the first load;
-- the migrations use them as they are. Enterprise Edition with the Partitioning option, or Free, or Autonomous; 12.2 to 26ai.
-- Oracle adds the partition of a new year automatically. The key's index is local, with its common prefix compressed, so a year can be
-- compressed, moved, exchanged (exchange.sql) or dropped alone. A query without bar_time reads every year: for a few years of daily bars
-- plain tables are as good.
-- With the Advanced Compression option, add ROW STORE COMPRESS ADVANCED before each PARTITION BY. Plain ROW STORE COMPRESS affects direct
-- path inserts only, which the loads do not use.
CREATE TABLE bronze_prices (
  symbol VARCHAR2(32 CHAR) NOT NULL,
  timeframe VARCHAR2(8 CHAR) NOT NULL,
  provider VARCHAR2(64 CHAR) NOT NULL,
  bar_time TIMESTAMP(6) NOT NULL,
  open_px NUMBER(20,8) NOT NULL,
  high_px NUMBER(20,8) NOT NULL,
  low_px NUMBER(20,8) NOT NULL,
  close_px NUMBER(20,8) NOT NULL,
  adj_close_px NUMBER(20,8),
  volume NUMBER(20,8),
  vwap NUMBER(20,8),
  trade_count NUMBER(19),
  row_hash VARCHAR2(64 CHAR) NOT NULL,
  load_id VARCHAR2(64 CHAR) NOT NULL,
  ingest_ts TIMESTAMP(6) NOT NULL,
  loaded_at TIMESTAMP(6) NOT NULL,
  CONSTRAINT bronze_prices_pk PRIMARY KEY (symbol, timeframe, provider, bar_time, ingest_ts, row_hash) USING INDEX LOCAL COMPRESS 3,
  CONSTRAINT bronze_prices_ck CHECK (high_px >= low_px AND volume >= 0)
)
PARTITION BY RANGE (bar_time) INTERVAL (NUMTOYMINTERVAL(1, 'YEAR'))
(PARTITION before_2010 VALUES LESS THAN (TIMESTAMP '2010-01-01 00:00:00'));

CREATE TABLE silver_prices (
  symbol VARCHAR2(32 CHAR) NOT NULL,
  timeframe VARCHAR2(8 CHAR) NOT NULL,
  provider VARCHAR2(64 CHAR) NOT NULL,
  bar_time TIMESTAMP(6) NOT NULL,
  open_px NUMBER(20,8) NOT NULL,
  high_px NUMBER(20,8) NOT NULL,
  low_px NUMBER(20,8) NOT NULL,
  close_px NUMBER(20,8) NOT NULL,
  adj_close_px NUMBER(20,8),
  volume NUMBER(20,8),
  vwap NUMBER(20,8),
  trade_count NUMBER(19),
  row_hash VARCHAR2(64 CHAR) NOT NULL,
  load_id VARCHAR2(64 CHAR) NOT NULL,
  ingest_ts TIMESTAMP(6) NOT NULL,
  loaded_at TIMESTAMP(6) NOT NULL,
  CONSTRAINT silver_prices_pk PRIMARY KEY (symbol, timeframe, provider, bar_time) USING INDEX LOCAL COMPRESS 3,
  CONSTRAINT silver_prices_ck CHECK (high_px >= low_px AND volume >= 0)
)
PARTITION BY RANGE (bar_time) INTERVAL (NUMTOYMINTERVAL(1, 'YEAR'))
(PARTITION before_2010 VALUES LESS THAN (TIMESTAMP '2010-01-01 00:00:00'));
