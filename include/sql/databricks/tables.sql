-- The tables: columns and keys are those of the warehouse's. Delta declares keys without enforcing them; merge.sql does.
--   load_id     the file of the version, as Auto Loader names it
--   loaded_at   when it was read
USE CATALOG IDENTIFIER(:catalog);
USE SCHEMA IDENTIFIER(:schema);

CREATE TABLE IF NOT EXISTS bronze_prices (
  symbol STRING NOT NULL,
  timeframe STRING NOT NULL,
  provider STRING NOT NULL,
  bar_time TIMESTAMP_NTZ NOT NULL,
  open_px DECIMAL(20,8) NOT NULL,
  high_px DECIMAL(20,8) NOT NULL,
  low_px DECIMAL(20,8) NOT NULL,
  close_px DECIMAL(20,8) NOT NULL,
  adj_close_px DECIMAL(20,8),
  volume DECIMAL(20,8),
  vwap DECIMAL(20,8),
  trade_count BIGINT,
  row_hash STRING NOT NULL,
  load_id STRING NOT NULL,
  ingest_ts TIMESTAMP_NTZ NOT NULL,
  loaded_at TIMESTAMP_NTZ NOT NULL,
  CONSTRAINT bronze_prices_pk PRIMARY KEY (symbol, timeframe, provider, bar_time, ingest_ts, row_hash)
) USING DELTA CLUSTER BY (symbol, bar_time);

CREATE TABLE IF NOT EXISTS silver_prices (
  symbol STRING NOT NULL,
  timeframe STRING NOT NULL,
  provider STRING NOT NULL,
  bar_time TIMESTAMP_NTZ NOT NULL,
  open_px DECIMAL(20,8) NOT NULL,
  high_px DECIMAL(20,8) NOT NULL,
  low_px DECIMAL(20,8) NOT NULL,
  close_px DECIMAL(20,8) NOT NULL,
  adj_close_px DECIMAL(20,8),
  volume DECIMAL(20,8),
  vwap DECIMAL(20,8),
  trade_count BIGINT,
  row_hash STRING NOT NULL,
  load_id STRING NOT NULL,
  ingest_ts TIMESTAMP_NTZ NOT NULL,
  loaded_at TIMESTAMP_NTZ NOT NULL,
  CONSTRAINT silver_prices_pk PRIMARY KEY (symbol, timeframe, provider, bar_time)
) USING DELTA CLUSTER BY (symbol, bar_time);

CREATE TABLE IF NOT EXISTS bronze_corporate_actions (
  symbol STRING NOT NULL,
  provider STRING NOT NULL,
  action_type STRING NOT NULL,
  ex_date DATE NOT NULL,
  action_id STRING NOT NULL,
  split_from DECIMAL(20,8),
  split_to DECIMAL(20,8),
  cash_amount DECIMAL(20,8),
  currency STRING,
  declaration_date DATE,
  record_date DATE,
  pay_date DATE,
  action_kind STRING,
  frequency INT,
  withdrawn INT,
  row_hash STRING NOT NULL,
  load_id STRING NOT NULL,
  ingest_ts TIMESTAMP_NTZ NOT NULL,
  loaded_at TIMESTAMP_NTZ NOT NULL,
  CONSTRAINT bronze_corporate_actions_pk PRIMARY KEY (symbol, provider, action_type, ex_date, action_id, ingest_ts, row_hash)
) USING DELTA CLUSTER BY (symbol, ex_date);

CREATE TABLE IF NOT EXISTS silver_corporate_actions (
  symbol STRING NOT NULL,
  provider STRING NOT NULL,
  action_type STRING NOT NULL,
  ex_date DATE NOT NULL,
  action_id STRING NOT NULL,
  split_from DECIMAL(20,8),
  split_to DECIMAL(20,8),
  cash_amount DECIMAL(20,8),
  currency STRING,
  declaration_date DATE,
  record_date DATE,
  pay_date DATE,
  action_kind STRING,
  frequency INT,
  withdrawn INT,
  row_hash STRING NOT NULL,
  load_id STRING NOT NULL,
  ingest_ts TIMESTAMP_NTZ NOT NULL,
  loaded_at TIMESTAMP_NTZ NOT NULL,
  CONSTRAINT silver_corporate_actions_pk PRIMARY KEY (symbol, provider, action_type, ex_date, action_id)
) USING DELTA CLUSTER BY (symbol, ex_date);
