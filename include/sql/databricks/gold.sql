-- Gold: the warehouse's views, statement for statement; docs/reference/warehouse.md describes each column. Differences: names of
-- types, and gold_restatements names the file of a version (new_load_id), not the run. action_coverage is a table of the warehouse, filled
-- from the lake's ledger; here every symbol that has an action counts as known for ever, and the others are not adjusted.
USE CATALOG IDENTIFIER(:catalog);
USE SCHEMA IDENTIFIER(:schema);

CREATE OR REPLACE VIEW action_coverage AS
SELECT DISTINCT a.symbol, a.provider, DATE'1900-01-01' AS known_from, DATE'9999-12-31' AS known_to
  FROM silver_corporate_actions a;

CREATE OR REPLACE VIEW gold_corporate_actions AS
SELECT r.symbol, r.provider, r.action_type, r.ex_date, r.action_id, r.split_from, r.split_to, r.cash_amount, r.currency,
       r.declaration_date, r.record_date, r.pay_date, r.action_kind, r.frequency, r.last_seen,
       CAST(r.versions - 1 AS INTEGER) AS contradicted
  FROM (SELECT a.symbol, a.provider, a.action_type, a.ex_date, a.action_id, a.split_from, a.split_to, a.cash_amount, a.currency,
               a.declaration_date, a.record_date, a.pay_date, a.action_kind, a.frequency, a.last_seen,
               ROW_NUMBER() OVER (PARTITION BY a.symbol, a.provider, a.action_type, a.ex_date, a.slot, a.place ORDER BY a.last_seen DESC, a.action_id) AS recency,
               COUNT(*) OVER (PARTITION BY a.symbol, a.provider, a.action_type, a.ex_date, a.slot, a.place) AS versions
          FROM (SELECT d.symbol, d.provider, d.action_type, d.ex_date, d.action_id, d.split_from, d.split_to, d.cash_amount, d.currency,
                       d.declaration_date, d.record_date, d.pay_date, d.action_kind, d.frequency, d.last_seen, d.slot,
                       SUM(d.apart) OVER (PARTITION BY d.symbol, d.provider, d.action_type, d.ex_date, d.slot ORDER BY d.cash_amount, d.action_id ROWS UNBOUNDED PRECEDING) AS place
                  FROM (SELECT c.symbol, c.provider, c.action_type, c.ex_date, c.action_id, c.split_from, c.split_to, c.cash_amount, c.currency,
                               c.declaration_date, c.record_date, c.pay_date, c.action_kind, c.frequency, c.last_seen, c.slot,
                               CASE WHEN c.action_type = 'dividend' AND c.cash_amount > 2 * LAG(c.cash_amount) OVER (PARTITION BY c.symbol, c.provider, c.action_type, c.ex_date, c.slot ORDER BY c.cash_amount, c.action_id)
                                    THEN 1 ELSE 0 END AS apart
                          FROM (SELECT s.symbol, s.provider, s.action_type, s.ex_date, s.action_id, s.split_from, s.split_to, s.cash_amount, s.currency,
                                       s.declaration_date, s.record_date, s.pay_date, s.action_kind, s.frequency,
                                       s.ingest_ts AS last_seen,
                                       CASE WHEN s.action_type = 'split' THEN 'split'
                                            ELSE COALESCE(s.action_kind, 'CD') || ' ' || COALESCE(s.currency, 'USD') END AS slot
                                  FROM silver_corporate_actions s
                                 WHERE s.withdrawn IS NULL) c) d) a) r
 WHERE r.recency = 1;

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
                                    THEN LN(CAST(1 - d.cash / d.previous_px AS DOUBLE)) ELSE 0 END AS cash_ln,
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
                                                       CAST(0 AS DOUBLE) AS split_ln, CAST(NULL AS DECIMAL(20,8)) AS cash,
                                                       0 AS dividends, 0 AS foreign_dividends
                                                  FROM silver_prices p
                                                 WHERE p.timeframe = '1d'
                                                 UNION ALL
                                                SELECT a.symbol, '1d', a.provider, CAST(a.ex_date AS TIMESTAMP_NTZ), 0,
                                                       NULL, NULL, NULL, NULL, NULL,
                                                       SUM(CASE WHEN a.action_type = 'split' THEN LN(CAST(a.split_from / a.split_to AS DOUBLE)) ELSE 0 END),
                                                       SUM(CASE WHEN a.action_type = 'dividend' AND COALESCE(a.currency, 'USD') = 'USD' THEN a.cash_amount END),
                                                       SUM(CASE WHEN a.action_type = 'dividend' AND COALESCE(a.currency, 'USD') = 'USD' THEN 1 ELSE 0 END),
                                                       SUM(CASE WHEN a.action_type = 'dividend' AND COALESCE(a.currency, 'USD') <> 'USD' THEN 1 ELSE 0 END)
                                                  FROM gold_corporate_actions a
                                                 GROUP BY a.symbol, a.provider, a.ex_date) t) c) d) e) f
          LEFT JOIN action_coverage k ON (k.symbol = f.symbol AND k.provider = f.provider
                    AND f.bar_time >= CAST(k.known_from AS TIMESTAMP_NTZ) AND f.bar_time <= CAST(k.known_to AS TIMESTAMP_NTZ))
         WHERE f.is_bar = 1) g;

CREATE OR REPLACE VIEW gold_action_differences AS
SELECT c.symbol, c.action_type, c.ex_date, 'contradicts itself' AS finding, c.provider AS provider_a, c.provider AS provider_b,
       CAST(c.value AS DOUBLE) AS value_a, CAST(NULL AS DOUBLE) AS value_b
  FROM (SELECT g.symbol, g.action_type, g.ex_date, g.provider,
               CASE WHEN g.action_type = 'split' THEN g.split_to / g.split_from ELSE g.cash_amount END AS value
          FROM gold_corporate_actions g
         WHERE g.contradicted > 0) c
 UNION ALL
SELECT d.symbol, d.action_type, d.ex_date,
       CASE WHEN d.value_a IS NULL THEN 'missing at provider_a' WHEN d.value_b IS NULL THEN 'missing at provider_b' ELSE 'value' END,
       d.provider_a, d.provider_b, d.value_a, d.value_b
  FROM (SELECT p.symbol, p.action_type, p.ex_date, p.provider_a, p.provider_b, a.value AS value_a, b.value AS value_b
          FROM (SELECT DISTINCT v.symbol, v.action_type, v.ex_date, v.currency, j.provider AS provider_a, k.provider AS provider_b
                  FROM (SELECT DISTINCT g.symbol, g.action_type, g.ex_date, COALESCE(g.currency, 'USD') AS currency FROM gold_corporate_actions g) v
                  JOIN action_coverage j ON (j.symbol = v.symbol AND v.ex_date > j.known_from AND v.ex_date <= j.known_to)
                  JOIN action_coverage k ON (k.symbol = v.symbol AND v.ex_date > k.known_from AND v.ex_date <= k.known_to)
                 WHERE j.provider < k.provider) p
          LEFT JOIN (SELECT g.symbol, g.provider, g.action_type, g.ex_date, COALESCE(g.currency, 'USD') AS currency,
                            CAST(SUM(CASE WHEN g.action_type = 'split' THEN g.split_to / g.split_from ELSE g.cash_amount END) AS DOUBLE) AS value
                       FROM gold_corporate_actions g
                      GROUP BY g.symbol, g.provider, g.action_type, g.ex_date, COALESCE(g.currency, 'USD')) a
                 ON (a.symbol = p.symbol AND a.provider = p.provider_a AND a.action_type = p.action_type AND a.ex_date = p.ex_date AND a.currency = p.currency)
          LEFT JOIN (SELECT g.symbol, g.provider, g.action_type, g.ex_date, COALESCE(g.currency, 'USD') AS currency,
                            CAST(SUM(CASE WHEN g.action_type = 'split' THEN g.split_to / g.split_from ELSE g.cash_amount END) AS DOUBLE) AS value
                       FROM gold_corporate_actions g
                      GROUP BY g.symbol, g.provider, g.action_type, g.ex_date, COALESCE(g.currency, 'USD')) b
                 ON (b.symbol = p.symbol AND b.provider = p.provider_b AND b.action_type = p.action_type AND b.ex_date = p.ex_date AND b.currency = p.currency)) d
 WHERE (d.value_a IS NULL AND d.value_b IS NOT NULL) OR (d.value_a IS NOT NULL AND d.value_b IS NULL)
    OR ABS(d.value_a - d.value_b) > 0.0001 * GREATEST(d.value_a, d.value_b);

CREATE OR REPLACE VIEW gold_price_features AS
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
                                       CAST(s.close_px AS DOUBLE) AS px,
                                       CAST(s.volume AS DOUBLE) AS shares,
                                       CAST(s.high_px AS DOUBLE) AS high,
                                       CAST(s.low_px AS DOUBLE) AS low
                                  FROM gold_adjusted_prices s
                                  LEFT JOIN symbol_calendars c ON (c.symbol = s.symbol AND c.provider = s.provider)
                                  LEFT JOIN market_sessions m ON (m.calendar = COALESCE(c.calendar, 'XNYS') AND CAST(m.session_date AS TIMESTAMP_NTZ) = s.bar_time)) p) b) q) r;

CREATE OR REPLACE VIEW gold_restatements AS
SELECT v.symbol, v.timeframe, v.provider, v.bar_time,
       CAST(v.old_open_px AS DECIMAL(20,8)) AS old_open_px, v.open_px AS new_open_px,
       CAST(v.old_high_px AS DECIMAL(20,8)) AS old_high_px, v.high_px AS new_high_px,
       CAST(v.old_low_px AS DECIMAL(20,8)) AS old_low_px, v.low_px AS new_low_px,
       CAST(v.old_close_px AS DECIMAL(20,8)) AS old_close_px, v.close_px AS new_close_px,
       CAST(v.old_adj_close_px AS DECIMAL(20,8)) AS old_adj_close_px, v.adj_close_px AS new_adj_close_px,
       CAST(v.old_volume AS DECIMAL(20,8)) AS old_volume, v.volume AS new_volume,
       CAST(v.old_vwap AS DECIMAL(20,8)) AS old_vwap, v.vwap AS new_vwap,
       CAST(v.old_trade_count AS BIGINT) AS old_trade_count, v.trade_count AS new_trade_count,
       v.old_ingest_ts, v.ingest_ts AS new_ingest_ts,
       v.old_load_id, v.load_id AS new_load_id,
       v.loaded_at AS restated_at
  FROM (SELECT b.symbol, b.timeframe, b.provider, b.bar_time,
               b.open_px, b.high_px, b.low_px, b.close_px, b.adj_close_px, b.volume, b.vwap, b.trade_count,
               b.row_hash, b.load_id, b.ingest_ts, b.loaded_at,
               LAG(b.open_px) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_open_px,
               LAG(b.high_px) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_high_px,
               LAG(b.low_px) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_low_px,
               LAG(b.close_px) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_close_px,
               LAG(b.adj_close_px) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_adj_close_px,
               LAG(b.volume) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_volume,
               LAG(b.vwap) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_vwap,
               LAG(b.trade_count) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_trade_count,
               LAG(b.row_hash) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_row_hash,
               LAG(b.ingest_ts) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_ingest_ts,
               LAG(b.load_id) OVER (PARTITION BY b.symbol, b.timeframe, b.provider, b.bar_time ORDER BY b.ingest_ts, b.loaded_at, b.row_hash) AS old_load_id
          FROM bronze_prices b) v
 WHERE v.old_row_hash IS NOT NULL AND v.old_row_hash <> v.row_hash;
