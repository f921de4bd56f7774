-- Rows for the test of the queries' plans: orders that are hard to find in a list that starts with the newest order.
-- The customer `late` has one order, in the country with the most orders; only one order is older. All credit notes are
-- among the 300 oldest rows, and all orders of the country `Nowhere` are among the 100 oldest.
INSERT INTO orders_v3{build}
  (order_id, kind, invoice, customer_id, country, ordered_at, currency, total, line_count, version)
SELECT
  'order_' || n,
  CASE WHEN n < 300 AND n % 3 = 0 THEN 'CREDIT_NOTE' ELSE 'SALE' END,
  n,
  CASE WHEN n = 0 THEN 'late' WHEN n % 2 = 0 THEN 'often' ELSE (n % 1000)::text END,
  CASE WHEN n > 0 AND n < 100 THEN 'Nowhere' ELSE 'United Kingdom' END,
  timestamptz '2011-01-01' + n * interval '1 minute',
  'GBP', 1, 1, 1
FROM generate_series(0, {rows} - 1) AS n;

-- The order of the examples in the OpenAPI document.
INSERT INTO orders_v3{build}
  (order_id, kind, invoice, customer_id, country, ordered_at, currency, total, line_count, version)
VALUES
  ('order_01h455vb4pex5vsknk084sn02q', 'SALE', '536365', '17850', 'United Kingdom', '2010-12-01T08:26:00Z',
    'GBP', 1, 1, 1);

INSERT INTO orders_v3_lines{build} (order_id, line_number, sku, quantity, unit_price, amount)
SELECT order_id, 1, '85123A', 1, 10000, 1 FROM orders_v3{build};
