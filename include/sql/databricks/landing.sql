-- Landing: the lake's files of daily bars, splits and dividends, as Auto Loader finds them. Source of a pipeline; its setting
-- market_data.raw is the lake's raw folder, e.g. s3://market-data/raw or /Volumes/main/market_data/lake/raw.
--   A file is replaced when a value is restated, a session added to a year file, or a symbol to a session file: allowOverwrites reads the
--   whole file again. So tables contain rows more than once; merge.sql takes each version of a value once.
--   Day files, session files and year files are in folders of different depth, and rows contain all columns. So partitionColumns is empty: nothing is
--   taken from folder names.
--   The schema is given, because an empty lake has none. Values that do not fit it are rescued and fail the update.
CREATE OR REFRESH STREAMING TABLE landed_prices (
  CONSTRAINT every_value_fits EXPECT (_rescued_data IS NULL) ON VIOLATION FAIL UPDATE
)
COMMENT 'Daily bars of the lake, a row each time a file brings it'
AS SELECT
  symbol, timeframe, bar_time, open, high, low, close, adj_close, volume, vwap, trade_count, provider, ingest_ts,
  _metadata.file_path AS source_file,
  current_timestamp() AS landed_at,
  _rescued_data
FROM STREAM read_files(
  '${market_data.raw}/prices',
  format => 'parquet',
  schema => 'symbol STRING, timeframe STRING, bar_time TIMESTAMP, session DATE, open DOUBLE, high DOUBLE, low DOUBLE, close DOUBLE, adj_close DOUBLE, volume DOUBLE, vwap DOUBLE, trade_count BIGINT, provider STRING, ingest_ts TIMESTAMP',
  rescuedDataColumn => '_rescued_data',
  partitionColumns => '',
  allowOverwrites => true
);

CREATE OR REFRESH STREAMING TABLE landed_corporate_actions (
  CONSTRAINT every_value_fits EXPECT (_rescued_data IS NULL) ON VIOLATION FAIL UPDATE
)
COMMENT 'Splits and dividends of the lake, a row each time a file brings it'
AS SELECT
  symbol, provider, action, ex_date, action_id, split_from, split_to, amount, currency, declaration_date, record_date, pay_date, kind,
  frequency, withdrawn, ingest_ts,
  _metadata.file_path AS source_file,
  current_timestamp() AS landed_at,
  _rescued_data
FROM STREAM read_files(
  '${market_data.raw}/corporate_actions',
  format => 'parquet',
  schema => 'symbol STRING, session DATE, action STRING, ex_date DATE, action_id STRING, split_from DOUBLE, split_to DOUBLE, amount DOUBLE, currency STRING, declaration_date DATE, record_date DATE, pay_date DATE, kind STRING, frequency INT, withdrawn BOOLEAN, provider STRING, ingest_ts TIMESTAMP',
  rescuedDataColumn => '_rescued_data',
  partitionColumns => '',
  allowOverwrites => true
);
