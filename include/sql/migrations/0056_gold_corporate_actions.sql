-- The corporate actions that hold: those of silver_corporate_actions that the vendor has not withdrawn, each once.
--   A symbol splits once on a day. Its dividends of a day may be several (a regular and a special one, say), but amounts of one kind and
--   currency, of which the larger is at most twice the smaller, are versions of one dividend. Versions contradict each other: the one seen
--   last holds, and contradicted tells how many others there are.
CREATE VIEW gold_corporate_actions AS
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
                                       COALESCE(s.confirmed_ts, s.ingest_ts) AS last_seen,
                                       CASE WHEN s.action_type = 'split' THEN 'split'
                                            ELSE COALESCE(s.action_kind, 'CD') || ' ' || COALESCE(s.currency, 'USD') END AS slot
                                  FROM silver_corporate_actions s
                                 WHERE s.withdrawn IS NULL) c) d) a) r
 WHERE r.recency = 1
