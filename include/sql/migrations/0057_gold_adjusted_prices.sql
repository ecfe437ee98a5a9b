-- Daily bars of silver_prices adjusted for the splits and cash dividends of the same provider, computed when read: a new action changes
-- all that is before it. The last bar of a symbol is as traded (factor 1), what is before it is brought to its terms. Written for
-- DuckDB, PostgreSQL 15+ and Oracle 19c+ alike. Prices as traded are cast to what they are, because Oracle forgets it in a UNION.
--   split_factor         of the splits after the bar: product of split_from / split_to
--   adj_factor           of these and of the dividends after it: times 1 - cash / close, the close as traded of the last bar before the
--                        ex-date (CRSP's convention, as in Yahoo Finance Help, "What is the adjusted close?", SLN28256)
--   split_..._px         price times split_factor; split_volume: volume divided by it
--   adj_close_px         close times adj_factor
--   All of these are null where the provider's corporate actions from the bar on are not loaded (action_coverage): nothing is known
--   then, and a price as traded would pass for an adjusted one.
--   actions_left_aside   dividends after the bar that are not in adj_factor: not in US dollars, or as large as the close they come out of
-- Actions that the vendor has withdrawn do not count, and of contradictory ones only one does (gold_corporate_actions).
-- An action counts for bars before its ex-date, and only once there is a bar on its ex-date or later. Dividends of one ex-date are added
-- up; with a split on that date they are taken as paid on the shares before it. Without a currency, dollars are meant. An action and the
-- close that it comes out of meet by a count of the bars so far, not by a join over dates, and factors are sums of logarithms: one
-- pass of windows, which is fast, and exact to about 15 digits.
CREATE OR REPLACE VIEW gold_adjusted_prices AS
SELECT g.symbol, g.timeframe, g.provider, g.bar_time,
       CAST(g.open_px AS DECIMAL(20,8)) AS open_px, CAST(g.high_px AS DECIMAL(20,8)) AS high_px, CAST(g.low_px AS DECIMAL(20,8)) AS low_px,
       CAST(g.close_px AS DECIMAL(20,8)) AS close_px, CAST(g.volume AS DECIMAL(20,8)) AS volume,
       g.split_factor, g.adj_factor,
       g.open_px * g.split_factor AS split_open_px,
       g.high_px * g.split_factor AS split_high_px,
       g.low_px * g.split_factor AS split_low_px,
       g.close_px * g.split_factor AS split_close_px,
       g.volume / g.split_factor AS split_volume,
       g.close_px * g.adj_factor AS adj_close_px,
       g.actions_left_aside
  FROM (SELECT f.symbol, f.timeframe, f.provider, f.bar_time,
               f.open_px, f.high_px, f.low_px, f.close_px, f.volume,
               CASE WHEN k.provider IS NOT NULL THEN f.split_factor END AS split_factor,
               CASE WHEN k.provider IS NOT NULL THEN f.adj_factor END AS adj_factor,
               f.actions_left_aside
          FROM (SELECT e.symbol, e.timeframe, e.provider, e.bar_time, e.is_bar,
                       e.open_px, e.high_px, e.low_px, e.close_px, e.volume,
                       EXP(SUM(e.split_ln) OVER (PARTITION BY e.symbol, e.provider ORDER BY e.bar_time DESC, e.is_bar DESC ROWS UNBOUNDED PRECEDING)) AS split_factor,
                       EXP(SUM(e.split_ln + e.cash_ln) OVER (PARTITION BY e.symbol, e.provider ORDER BY e.bar_time DESC, e.is_bar DESC ROWS UNBOUNDED PRECEDING)) AS adj_factor,
                       CAST(SUM(e.left_aside) OVER (PARTITION BY e.symbol, e.provider ORDER BY e.bar_time DESC, e.is_bar DESC ROWS UNBOUNDED PRECEDING) AS INTEGER) AS actions_left_aside
                  FROM (SELECT d.symbol, d.timeframe, d.provider, d.bar_time, d.is_bar,
                               d.open_px, d.high_px, d.low_px, d.close_px, d.volume,
                               CASE WHEN d.bars_before < d.bars THEN d.split_ln ELSE 0 END AS split_ln,
                               CASE WHEN d.bars_before < d.bars AND d.cash > 0 AND d.cash < d.previous_px
                                    THEN LN(CAST(1 - d.cash / d.previous_px AS DOUBLE PRECISION)) ELSE 0 END AS cash_ln,
                               CASE WHEN d.bars_before < d.bars
                                    THEN d.foreign_dividends + CASE WHEN d.cash >= d.previous_px THEN d.dividends ELSE 0 END ELSE 0 END AS left_aside
                          FROM (SELECT c.symbol, c.timeframe, c.provider, c.bar_time, c.is_bar,
                                       c.open_px, c.high_px, c.low_px, c.close_px, c.volume,
                                       c.split_ln, c.cash, c.dividends, c.foreign_dividends, c.bars_before,
                                       SUM(c.is_bar) OVER (PARTITION BY c.symbol, c.provider) AS bars,
                                       MAX(c.close_px) OVER (PARTITION BY c.symbol, c.provider, c.bars_before) AS previous_px
                                  FROM (SELECT t.symbol, t.timeframe, t.provider, t.bar_time, t.is_bar,
                                               t.open_px, t.high_px, t.low_px, t.close_px, t.volume,
                                               t.split_ln, t.cash, t.dividends, t.foreign_dividends,
                                               SUM(t.is_bar) OVER (PARTITION BY t.symbol, t.provider ORDER BY t.bar_time, t.is_bar ROWS UNBOUNDED PRECEDING) AS bars_before
                                          FROM (SELECT p.symbol, p.timeframe, p.provider, p.bar_time, 1 AS is_bar,
                                                       p.open_px, p.high_px, p.low_px, p.close_px, p.volume,
                                                       CAST(0 AS DOUBLE PRECISION) AS split_ln, CAST(NULL AS DECIMAL(20,8)) AS cash,
                                                       0 AS dividends, 0 AS foreign_dividends
                                                  FROM silver_prices p
                                                 WHERE p.timeframe = '1d'
                                                 UNION ALL
                                                SELECT a.symbol, '1d', a.provider, CAST(a.ex_date AS TIMESTAMP), 0,
                                                       NULL, NULL, NULL, NULL, NULL,
                                                       SUM(CASE WHEN a.action_type = 'split' THEN LN(CAST(a.split_from / a.split_to AS DOUBLE PRECISION)) ELSE 0 END),
                                                       SUM(CASE WHEN a.action_type = 'dividend' AND COALESCE(a.currency, 'USD') = 'USD' THEN a.cash_amount END),
                                                       SUM(CASE WHEN a.action_type = 'dividend' AND COALESCE(a.currency, 'USD') = 'USD' THEN 1 ELSE 0 END),
                                                       SUM(CASE WHEN a.action_type = 'dividend' AND COALESCE(a.currency, 'USD') <> 'USD' THEN 1 ELSE 0 END)
                                                  FROM gold_corporate_actions a
                                                 GROUP BY a.symbol, a.provider, a.ex_date) t) c) d) e) f
          LEFT JOIN action_coverage k ON (k.symbol = f.symbol AND k.provider = f.provider
                    AND f.bar_time >= CAST(k.known_from AS TIMESTAMP) AND f.bar_time <= CAST(k.known_to AS TIMESTAMP))
         WHERE f.is_bar = 1) g
