-- Disagreements of providers: each symbol and session on which two of them differ, newest first. It compares the daily bars of
-- silver_prices over the dates that both providers have for the symbol. Compare equal meanings: raw with raw, polygon~split with another
-- split-adjusted source. The same text runs on DuckDB, PostgreSQL 15+ and Oracle 12c+.
--   finding   missing at provider_a or provider_b: the other has a bar
--             close: more than a cent apart
--             volume: more than 1 percent apart, of the larger one
WITH pairs AS (
  SELECT a.symbol, a.provider AS provider_a, b.provider AS provider_b,
         GREATEST(a.first_time, b.first_time) AS first_time, LEAST(a.last_time, b.last_time) AS last_time
    FROM (SELECT symbol, provider, MIN(bar_time) AS first_time, MAX(bar_time) AS last_time
            FROM silver_prices WHERE timeframe = '1d' GROUP BY symbol, provider) a
    JOIN (SELECT symbol, provider, MIN(bar_time) AS first_time, MAX(bar_time) AS last_time
            FROM silver_prices WHERE timeframe = '1d' GROUP BY symbol, provider) b
      ON (b.symbol = a.symbol AND b.provider > a.provider)
), bars AS (
  SELECT s.symbol, s.provider_a, s.provider_b, p.bar_time,
         MAX(CASE WHEN p.provider = s.provider_a THEN p.close_px END) AS close_a,
         MAX(CASE WHEN p.provider = s.provider_b THEN p.close_px END) AS close_b,
         MAX(CASE WHEN p.provider = s.provider_a THEN p.volume END) AS volume_a,
         MAX(CASE WHEN p.provider = s.provider_b THEN p.volume END) AS volume_b
    FROM pairs s
    JOIN silver_prices p ON (p.symbol = s.symbol AND p.provider IN (s.provider_a, s.provider_b) AND p.timeframe = '1d'
                             AND p.bar_time BETWEEN s.first_time AND s.last_time)
   GROUP BY s.symbol, s.provider_a, s.provider_b, p.bar_time
), findings AS (
  SELECT symbol, provider_a, provider_b, bar_time, close_a, close_b, volume_a, volume_b,
         CASE WHEN close_a IS NULL THEN 'missing at provider_a'
              WHEN close_b IS NULL THEN 'missing at provider_b'
              WHEN ABS(close_a - close_b) > 0.01 THEN 'close'
              WHEN ABS(volume_a - volume_b) > 0.01 * GREATEST(volume_a, volume_b) THEN 'volume' END AS finding
    FROM bars
)
SELECT symbol, CAST(bar_time AS DATE) AS session_date, finding, provider_a, provider_b, close_a, close_b, volume_a, volume_b
  FROM findings
 WHERE finding IS NOT NULL
 ORDER BY bar_time DESC, symbol, provider_a, provider_b
