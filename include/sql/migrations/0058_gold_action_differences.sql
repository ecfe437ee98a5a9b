-- Corporate actions that contradict each other: within a provider (provider_a and provider_b are the same), and between two providers that
-- both know the date (action_coverage). Of splits the ratio (shares after for one before) is compared, of dividends the sum of a day
-- in one currency; they differ by more than 0.01 %, or one provider has none.
CREATE VIEW gold_action_differences AS
SELECT c.symbol, c.action_type, c.ex_date, 'contradicts itself' AS finding, c.provider AS provider_a, c.provider AS provider_b,
       CAST(c.value AS DOUBLE PRECISION) AS value_a, CAST(NULL AS DOUBLE PRECISION) AS value_b
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
                            CAST(SUM(CASE WHEN g.action_type = 'split' THEN g.split_to / g.split_from ELSE g.cash_amount END) AS DOUBLE PRECISION) AS value
                       FROM gold_corporate_actions g
                      GROUP BY g.symbol, g.provider, g.action_type, g.ex_date, COALESCE(g.currency, 'USD')) a
                 ON (a.symbol = p.symbol AND a.provider = p.provider_a AND a.action_type = p.action_type AND a.ex_date = p.ex_date AND a.currency = p.currency)
          LEFT JOIN (SELECT g.symbol, g.provider, g.action_type, g.ex_date, COALESCE(g.currency, 'USD') AS currency,
                            CAST(SUM(CASE WHEN g.action_type = 'split' THEN g.split_to / g.split_from ELSE g.cash_amount END) AS DOUBLE PRECISION) AS value
                       FROM gold_corporate_actions g
                      GROUP BY g.symbol, g.provider, g.action_type, g.ex_date, COALESCE(g.currency, 'USD')) b
                 ON (b.symbol = p.symbol AND b.provider = p.provider_b AND b.action_type = p.action_type AND b.ex_date = p.ex_date AND b.currency = p.currency)) d
 WHERE (d.value_a IS NULL AND d.value_b IS NOT NULL) OR (d.value_a IS NOT NULL AND d.value_b IS NULL)
    OR ABS(d.value_a - d.value_b) > 0.0001 * GREATEST(d.value_a, d.value_b)
