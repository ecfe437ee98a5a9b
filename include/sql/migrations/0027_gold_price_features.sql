-- Features of daily bars, computed from silver_prices when read. Rows are sessions; a figure is null until its window is full. Prices
-- are raw: a split shows as a return, and in every window that it falls into; the adj_ columns are without that. Figures are floating
-- point numbers, made so before any of them is computed: exact decimals take a server many times as long, and 15 digits are enough.
-- The same text runs on DuckDB, PostgreSQL 15+ and Oracle 19c+.
--   simple_ret, log_ret  close against the previous session's close
--   ma_20, ma_50         mean close of the last 20, 50 sessions, this one included
--   close_stddev_20d     sample standard deviation of the last 20 closes
--   volatility_20d       sample standard deviation of the last 20 log returns, a year of 252 sessions
--   dollar_volume        close times volume; null where the volume is
--   high_52w, low_52w    highest high, lowest low of the last 252 sessions, this one included
--   adj_close_px         gold_adjusted_prices has it; null where the provider has no corporate actions
--   adj_simple_ret       adj_close_px against the previous session's
-- A session is a bar that is there: where one is missing, windows reach further back. The highest of 252 bars is looked for in blocks of
-- 252: that of the block's bars up to this one, and that of the block's before from the 252nd bar back on. A server that goes through
-- 252 bars for each one takes minutes for what takes seconds so.
CREATE VIEW gold_price_features AS
SELECT r.symbol, r.timeframe, r.provider, r.bar_time, r.close_px, r.volume,
       r.px / r.previous_px - 1 AS simple_ret,
       r.log_ret,
       CASE WHEN r.bars >= 20
            THEN AVG(r.px) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) END AS ma_20,
       CASE WHEN r.bars >= 50
            THEN AVG(r.px) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 49 PRECEDING AND CURRENT ROW) END AS ma_50,
       CASE WHEN r.bars >= 20
            THEN STDDEV_SAMP(r.px) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) END AS close_stddev_20d,
       CASE WHEN r.bars >= 21
            THEN STDDEV_SAMP(r.log_ret) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) * SQRT(252) END AS volatility_20d,
       r.px * r.shares AS dollar_volume,
       CASE WHEN r.bars >= 252 THEN GREATEST(r.high_so_far, LAG(r.high_from_here, 251) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time)) END AS high_52w,
       CASE WHEN r.bars >= 252 THEN LEAST(r.low_so_far, LAG(r.low_from_here, 251) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time)) END AS low_52w,
       r.adj_close_px,
       r.adj_close_px / r.previous_adj_px - 1 AS adj_simple_ret
  FROM (SELECT q.symbol, q.timeframe, q.provider, q.bar_time, q.close_px, q.volume, q.px, q.shares, q.high, q.low, q.adj_close_px,
               q.previous_px, q.previous_adj_px, q.bars,
               LN(q.px / q.previous_px) AS log_ret,
               MAX(q.high) OVER (PARTITION BY q.symbol, q.timeframe, q.provider, FLOOR((q.bars - 1) / 252) ORDER BY q.bar_time ROWS UNBOUNDED PRECEDING) AS high_so_far,
               MAX(q.high) OVER (PARTITION BY q.symbol, q.timeframe, q.provider, FLOOR((q.bars - 1) / 252) ORDER BY q.bar_time DESC ROWS UNBOUNDED PRECEDING) AS high_from_here,
               MIN(q.low) OVER (PARTITION BY q.symbol, q.timeframe, q.provider, FLOOR((q.bars - 1) / 252) ORDER BY q.bar_time ROWS UNBOUNDED PRECEDING) AS low_so_far,
               MIN(q.low) OVER (PARTITION BY q.symbol, q.timeframe, q.provider, FLOOR((q.bars - 1) / 252) ORDER BY q.bar_time DESC ROWS UNBOUNDED PRECEDING) AS low_from_here
          FROM (SELECT p.symbol, p.timeframe, p.provider, p.bar_time, p.close_px, p.volume, p.px, p.shares, p.high, p.low, p.adj_close_px,
                       LAG(p.px) OVER (PARTITION BY p.symbol, p.timeframe, p.provider ORDER BY p.bar_time) AS previous_px,
                       LAG(p.adj_close_px) OVER (PARTITION BY p.symbol, p.timeframe, p.provider ORDER BY p.bar_time) AS previous_adj_px,
                       ROW_NUMBER() OVER (PARTITION BY p.symbol, p.timeframe, p.provider ORDER BY p.bar_time) AS bars
                  FROM (SELECT s.symbol, s.timeframe, s.provider, s.bar_time, s.close_px, s.volume, s.adj_close_px,
                               CAST(s.close_px AS DOUBLE PRECISION) AS px,
                               CAST(s.volume AS DOUBLE PRECISION) AS shares,
                               CAST(s.high_px AS DOUBLE PRECISION) AS high,
                               CAST(s.low_px AS DOUBLE PRECISION) AS low
                          FROM gold_adjusted_prices s) p) q) r
