-- Features of daily bars, computed from silver_prices when read. A window is so many sessions in a row: where one of them has no bar, the
-- figure is null, as it is until the window is full. Prices are raw: a split shows as a return, and in every window that it falls into;
-- the adj_ columns are without that. Figures are floating point numbers, made so before any of them is computed: exact decimals take a
-- server many times as long, and 15 digits are enough. The same text runs on DuckDB, PostgreSQL 15+ and Oracle 19c+.
--   simple_ret, log_ret  close against the previous session's close; null where a close to divide by or to take a logarithm of is 0 or less
--   ma_20, ma_50         mean close of the last 20, 50 sessions, this one included
--   close_stddev_20d     sample standard deviation of the last 20 closes
--   volatility_20d       sample standard deviation of the last 20 log returns, a year of 252 sessions; null where one of them is
--   dollar_volume        close times volume; null where the volume is
--   high_52w, low_52w    highest high, lowest low of the last 252 sessions, this one included
--   adj_close_px         gold_adjusted_prices has it; null where the provider has no corporate actions
--   adj_simple_ret       adj_close_px against the previous session's
-- market_sessions counts the sessions of each calendar; symbol_calendars names the calendar of symbols that have another than XNYS. A bar
-- whose number is not one more than that of the bar before it begins a run, and a window is full once the run has so many bars. A bar on
-- a date that is not a session is a run of its own. The highest of 252 bars is looked for in blocks of 252: that of the block's bars up
-- to this one, and that of the block's before from the 252nd bar back on. A server that goes through 252 bars for each one takes minutes
-- for what takes seconds so.
CREATE VIEW gold_price_features AS
SELECT r.symbol, r.timeframe, r.provider, r.bar_time, r.close_px, r.volume,
       CASE WHEN r.previous_px > 0 THEN r.px / r.previous_px - 1 END AS simple_ret,
       r.log_ret,
       CASE WHEN r.bars >= 20
            THEN AVG(r.px) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) END AS ma_20,
       CASE WHEN r.bars >= 50
            THEN AVG(r.px) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 49 PRECEDING AND CURRENT ROW) END AS ma_50,
       CASE WHEN r.bars >= 20
            THEN STDDEV_SAMP(r.px) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) END AS close_stddev_20d,
       CASE WHEN COUNT(r.log_ret) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) = 20
            THEN STDDEV_SAMP(r.log_ret) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) * SQRT(252) END AS volatility_20d,
       r.px * r.shares AS dollar_volume,
       CASE WHEN r.bars >= 252 THEN GREATEST(r.high_so_far, LAG(r.high_from_here, 251) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time)) END AS high_52w,
       CASE WHEN r.bars >= 252 THEN LEAST(r.low_so_far, LAG(r.low_from_here, 251) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time)) END AS low_52w,
       r.adj_close_px,
       CASE WHEN r.previous_adj_px > 0 THEN r.adj_close_px / r.previous_adj_px - 1 END AS adj_simple_ret
  FROM (SELECT q.symbol, q.timeframe, q.provider, q.bar_time, q.close_px, q.volume, q.px, q.shares, q.adj_close_px,
               q.previous_px, q.previous_adj_px,
               CASE WHEN q.px > 0 AND q.previous_px > 0 THEN LN(q.px / q.previous_px) END AS log_ret,
               q.place - MAX(q.run_began) OVER (PARTITION BY q.symbol, q.timeframe, q.provider ORDER BY q.bar_time ROWS UNBOUNDED PRECEDING) + 1 AS bars,
               MAX(q.high) OVER (PARTITION BY q.symbol, q.timeframe, q.provider, FLOOR((q.place - 1) / 252) ORDER BY q.bar_time ROWS UNBOUNDED PRECEDING) AS high_so_far,
               MAX(q.high) OVER (PARTITION BY q.symbol, q.timeframe, q.provider, FLOOR((q.place - 1) / 252) ORDER BY q.bar_time DESC ROWS UNBOUNDED PRECEDING) AS high_from_here,
               MIN(q.low) OVER (PARTITION BY q.symbol, q.timeframe, q.provider, FLOOR((q.place - 1) / 252) ORDER BY q.bar_time ROWS UNBOUNDED PRECEDING) AS low_so_far,
               MIN(q.low) OVER (PARTITION BY q.symbol, q.timeframe, q.provider, FLOOR((q.place - 1) / 252) ORDER BY q.bar_time DESC ROWS UNBOUNDED PRECEDING) AS low_from_here
          FROM (SELECT b.symbol, b.timeframe, b.provider, b.bar_time, b.close_px, b.volume, b.px, b.shares, b.high, b.low, b.adj_close_px, b.place,
                       CASE WHEN b.session_no = b.previous_no + 1 THEN b.px_before END AS previous_px,
                       CASE WHEN b.session_no = b.previous_no + 1 THEN b.adj_px_before END AS previous_adj_px,
                       CASE WHEN b.session_no = b.previous_no + 1 THEN 1 ELSE b.place END AS run_began
                  FROM (SELECT p.symbol, p.timeframe, p.provider, p.bar_time, p.close_px, p.volume, p.px, p.shares, p.high, p.low, p.adj_close_px, p.session_no,
                               LAG(p.px) OVER (PARTITION BY p.symbol, p.timeframe, p.provider ORDER BY p.bar_time) AS px_before,
                               LAG(p.adj_close_px) OVER (PARTITION BY p.symbol, p.timeframe, p.provider ORDER BY p.bar_time) AS adj_px_before,
                               LAG(p.session_no) OVER (PARTITION BY p.symbol, p.timeframe, p.provider ORDER BY p.bar_time) AS previous_no,
                               ROW_NUMBER() OVER (PARTITION BY p.symbol, p.timeframe, p.provider ORDER BY p.bar_time) AS place
                          FROM (SELECT s.symbol, s.timeframe, s.provider, s.bar_time, s.close_px, s.volume, s.adj_close_px, m.session_no,
                                       CAST(s.close_px AS DOUBLE PRECISION) AS px,
                                       CAST(s.volume AS DOUBLE PRECISION) AS shares,
                                       CAST(s.high_px AS DOUBLE PRECISION) AS high,
                                       CAST(s.low_px AS DOUBLE PRECISION) AS low
                                  FROM gold_adjusted_prices s
                                  LEFT JOIN symbol_calendars c ON (c.symbol = s.symbol AND c.provider = s.provider)
                                  LEFT JOIN market_sessions m ON (m.calendar = COALESCE(c.calendar, 'XNYS') AND CAST(m.session_date AS TIMESTAMP) = s.bar_time)) p) b) q) r
