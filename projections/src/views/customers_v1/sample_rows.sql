-- Rows for the test of the queries' plans. The totals in euros are the smallest, and the oldest. The examples in the
-- OpenAPI document use the customer 17850.
INSERT INTO customers_v1{build}
  (customer_id, currency, orders, credit_notes, lines, total, first_order_at, last_order_at)
SELECT
  CASE WHEN n = 500 THEN '17850' ELSE 'c' || n END,
  CASE WHEN n < 100 THEN 'EUR' ELSE 'GBP' END,
  1, 0, 1, n,
  timestamptz '2011-01-01',
  timestamptz '2011-01-01' + n * interval '1 minute'
FROM generate_series(0::bigint, {rows} - 1) AS n;
