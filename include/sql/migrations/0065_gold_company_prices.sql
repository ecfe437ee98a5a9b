-- Daily bars of companies through their changes of symbol, adjusted like those of gold_adjusted_prices: the bars of FB are adjusted for what
-- META split and paid as well. symbol is the one that a bar was traded under, company the last one (symbol_names, of silver_symbol_changes).
--   split_factor, adj_factor, split_close_px, adj_close_px   as in gold_adjusted_prices; null also where the actions of a later bar of the company,
--   up to the last one with known actions, are not loaded
CREATE VIEW gold_company_prices AS
SELECT g.company, g.symbol, g.timeframe, g.provider, g.bar_time, CAST(g.close_px AS DECIMAL(20,8)) AS close_px, CAST(g.volume AS DECIMAL(20,8)) AS volume,
       g.split_factor, g.adj_factor,
       g.close_px * g.split_factor AS split_close_px,
       g.close_px * g.adj_factor AS adj_close_px
  FROM (SELECT f.company, f.symbol, f.timeframe, f.provider, f.bar_time, f.close_px, f.volume,
               CASE WHEN f.unknown = 0 AND f.gaps = 0 THEN f.split_factor END AS split_factor,
               CASE WHEN f.unknown = 0 AND f.gaps = 0 THEN f.adj_factor END AS adj_factor
          FROM (SELECT e.company, e.symbol, e.timeframe, e.provider, e.bar_time, e.is_bar, e.unknown, e.close_px, e.volume,
                       SUM(e.gap) OVER (PARTITION BY e.company, e.provider ORDER BY e.bar_time DESC, e.is_bar DESC ROWS UNBOUNDED PRECEDING) AS gaps,
                       EXP(SUM(e.split_ln) OVER (PARTITION BY e.company, e.provider ORDER BY e.bar_time DESC, e.is_bar DESC ROWS UNBOUNDED PRECEDING)) AS split_factor,
                       EXP(SUM(e.split_ln + e.cash_ln) OVER (PARTITION BY e.company, e.provider ORDER BY e.bar_time DESC, e.is_bar DESC ROWS UNBOUNDED PRECEDING)) AS adj_factor
                  FROM (SELECT d.company, d.symbol, d.timeframe, d.provider, d.bar_time, d.is_bar, d.unknown, d.close_px, d.volume,
                               CASE WHEN d.unknown = 1 AND d.bar_time <= d.last_known THEN 1 ELSE 0 END AS gap,
                               CASE WHEN d.bars_before < d.bars THEN d.split_ln ELSE 0 END AS split_ln,
                               CASE WHEN d.bars_before < d.bars AND d.cash > 0 AND d.cash < d.previous_px
                                    THEN LN(CAST(1 - d.cash / d.previous_px AS DOUBLE PRECISION)) ELSE 0 END AS cash_ln
                          FROM (SELECT c.company, c.symbol, c.timeframe, c.provider, c.bar_time, c.is_bar, c.unknown, c.close_px, c.volume,
                                       c.split_ln, c.cash, c.bars_before,
                                       MAX(CASE WHEN c.is_bar = 1 AND c.unknown = 0 THEN c.bar_time END) OVER (PARTITION BY c.company, c.provider) AS last_known,
                                       SUM(c.is_bar) OVER (PARTITION BY c.company, c.provider) AS bars,
                                       MAX(c.close_px) OVER (PARTITION BY c.company, c.provider, c.bars_before) AS previous_px
                                  FROM (SELECT t.company, t.symbol, t.timeframe, t.provider, t.bar_time, t.is_bar, t.unknown, t.close_px, t.volume,
                                               t.split_ln, t.cash,
                                               SUM(t.is_bar) OVER (PARTITION BY t.company, t.provider ORDER BY t.bar_time, t.is_bar ROWS UNBOUNDED PRECEDING) AS bars_before
                                          FROM (SELECT COALESCE(n.company, p.symbol) AS company, p.symbol, p.timeframe, p.provider, p.bar_time, 1 AS is_bar,
                                                       CASE WHEN k.symbol IS NULL THEN 1 ELSE 0 END AS unknown, p.close_px, p.volume,
                                                       CAST(0 AS DOUBLE PRECISION) AS split_ln, CAST(NULL AS DECIMAL(20,8)) AS cash
                                                  FROM silver_prices p
                                                  LEFT JOIN symbol_names n ON (n.symbol = p.symbol
                                                            AND p.bar_time >= CAST(n.name_from AS TIMESTAMP) AND p.bar_time < CAST(n.name_to AS TIMESTAMP))
                                                  LEFT JOIN action_coverage k ON (k.symbol = p.symbol AND k.provider = p.provider
                                                            AND p.bar_time >= CAST(k.known_from AS TIMESTAMP) AND p.bar_time <= CAST(k.known_to AS TIMESTAMP))
                                                 WHERE p.timeframe = '1d'
                                                 UNION ALL
                                                SELECT b.company, b.company, '1d', b.provider, CAST(b.ex_date AS TIMESTAMP), 0, 0, NULL, NULL,
                                                       SUM(CASE WHEN b.action_type = 'split' THEN LN(CAST(b.split_from / b.split_to AS DOUBLE PRECISION)) ELSE 0 END),
                                                       SUM(CASE WHEN b.action_type = 'dividend' AND COALESCE(b.currency, 'USD') = 'USD' THEN b.cash_amount END)
                                                  FROM (SELECT DISTINCT COALESCE(m.company, a.symbol) AS company, a.provider, a.ex_date, a.action_type, a.action_id,
                                                               a.currency, a.split_from, a.split_to, a.cash_amount
                                                          FROM gold_corporate_actions a
                                                          LEFT JOIN symbol_names m ON (m.symbol = a.symbol AND a.ex_date >= m.name_from AND a.ex_date < m.name_to)) b
                                                 GROUP BY b.company, b.provider, b.ex_date) t) c) d) e) f
         WHERE f.is_bar = 1) g
