-- Rows for the test of the queries' plans. The countries with sales in euros are the last ones.
INSERT INTO country_sales_v1{build}
  (country, currency, orders, credit_notes, lines, total, first_order_at, last_order_at)
SELECT
  'c' || lpad(n::text, 9, '0'),
  CASE WHEN n >= {rows} - 100 THEN 'EUR' ELSE 'GBP' END,
  1, 0, 1, n,
  timestamptz '2011-01-01',
  timestamptz '2011-01-01'
FROM generate_series(0::bigint, {rows} - 1) AS n;
