-- The most asked-for items of the statements in silver_fundamentals, a row for each symbol, provider and fiscal period, computed when
-- read. Items go by their vendor's names (Financial Modeling Prep's); what a company or vendor lacks is null. Written for
-- DuckDB, PostgreSQL 15+ and Oracle 12c+ alike.
--   known_on   the latest of the statements' filing dates: before it, not all of the row was public
CREATE VIEW gold_fundamentals AS
SELECT f.symbol, f.provider, f.fiscal_period, f.period_end,
       MAX(f.fiscal_year) AS fiscal_year,
       MAX(f.filing_date) AS known_on,
       MAX(f.currency) AS currency,
       MAX(CASE WHEN f.statement = 'income' AND f.item = 'revenue' THEN f.amount END) AS revenue,
       MAX(CASE WHEN f.statement = 'income' AND f.item = 'operatingIncome' THEN f.amount END) AS operating_income,
       MAX(CASE WHEN f.statement = 'income' AND f.item = 'netIncome' THEN f.amount END) AS net_income,
       MAX(CASE WHEN f.statement = 'income' AND f.item = 'eps' THEN f.amount END) AS eps,
       MAX(CASE WHEN f.statement = 'income' AND f.item = 'epsDiluted' THEN f.amount END) AS eps_diluted,
       MAX(CASE WHEN f.statement = 'balance_sheet' AND f.item = 'totalAssets' THEN f.amount END) AS total_assets,
       MAX(CASE WHEN f.statement = 'balance_sheet' AND f.item = 'totalLiabilities' THEN f.amount END) AS total_liabilities,
       MAX(CASE WHEN f.statement = 'balance_sheet' AND f.item = 'totalStockholdersEquity' THEN f.amount END) AS equity,
       MAX(CASE WHEN f.statement = 'cash_flow' AND f.item = 'operatingCashFlow' THEN f.amount END) AS operating_cash_flow,
       MAX(CASE WHEN f.statement = 'cash_flow' AND f.item = 'capitalExpenditure' THEN f.amount END) AS capital_expenditure,
       MAX(CASE WHEN f.statement = 'cash_flow' AND f.item = 'freeCashFlow' THEN f.amount END) AS free_cash_flow
  FROM silver_fundamentals f
 GROUP BY f.symbol, f.provider, f.fiscal_period, f.period_end
