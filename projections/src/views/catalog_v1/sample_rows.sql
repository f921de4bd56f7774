-- Rows for the test of the queries' plans. The products without a price and those in euros are the oldest, and the last
-- by name. The examples in the OpenAPI document use the product 85123A.
INSERT INTO catalog_v1{build} (sku, description, name, price, currency, created_at, version)
SELECT
  CASE WHEN n = 500 THEN '85123A' ELSE 'SKU' || n END,
  upper(name),
  name,
  CASE WHEN n >= 300 THEN n * 7919 % 10000 END,
  CASE WHEN n >= 400 THEN 'GBP' WHEN n >= 300 THEN 'EUR' END,
  timestamptz '2011-01-01' + n * interval '1 minute',
  1
FROM (
  SELECT
    n,
    CASE WHEN n < 400 THEN 'zz ' WHEN n % 1000 = 500 THEN 'white hanging heart ' ELSE '' END || md5(n::text) AS name
  FROM generate_series(0::bigint, {rows} - 1) AS n
) AS products;
