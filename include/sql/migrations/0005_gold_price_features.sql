-- Features of daily bars, computed from silver_prices when read. Rows are sessions; a figure is null until its window is full.
-- Prices are raw: a split shows as a return. The same text runs on DuckDB, PostgreSQL 15+ and Oracle 12c+.
--   simple_ret, log_ret  close against the previous session's close
--   ma_20, ma_50         mean close of the last 20, 50 sessions, this one included
--   close_stddev_20d     sample standard deviation of the last 20 closes
--   volatility_20d       sample standard deviation of the last 20 log returns, a year of 252 sessions
CREATE VIEW gold_price_features AS
SELECT r.symbol, r.timeframe, r.provider, r.bar_time, r.close_px, r.volume,
       r.close_px / r.previous_px - 1 AS simple_ret,
       r.log_ret,
       CASE WHEN COUNT(r.close_px) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) = 20
            THEN AVG(r.close_px) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) END AS ma_20,
       CASE WHEN COUNT(r.close_px) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 49 PRECEDING AND CURRENT ROW) = 50
            THEN AVG(r.close_px) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 49 PRECEDING AND CURRENT ROW) END AS ma_50,
       CASE WHEN COUNT(r.close_px) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) = 20
            THEN STDDEV_SAMP(r.close_px) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) END AS close_stddev_20d,
       CASE WHEN COUNT(r.log_ret) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) = 20
            THEN STDDEV_SAMP(r.log_ret) OVER (PARTITION BY r.symbol, r.timeframe, r.provider ORDER BY r.bar_time ROWS BETWEEN 19 PRECEDING AND CURRENT ROW) * SQRT(252) END AS volatility_20d
  FROM (SELECT q.symbol, q.timeframe, q.provider, q.bar_time, q.close_px, q.volume, q.previous_px,
               LN(q.close_px / q.previous_px) AS log_ret
          FROM (SELECT p.symbol, p.timeframe, p.provider, p.bar_time, p.close_px, p.volume,
                       LAG(p.close_px) OVER (PARTITION BY p.symbol, p.timeframe, p.provider ORDER BY p.bar_time) AS previous_px
                  FROM silver_prices p
                 WHERE p.timeframe = '1d') q) r
