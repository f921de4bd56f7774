-- Orders and credit notes of each customer: one row per currency.
CREATE TABLE IF NOT EXISTS customers_v1 (
  -- Opaque id. Sorted by bytes, so that the order does not depend on the server's locale.
  customer_id      text COLLATE "C" NOT NULL,
  -- ISO 4217.
  currency         text COLLATE "C" NOT NULL,
  orders           bigint           NOT NULL,
  credit_notes     bigint           NOT NULL,
  -- Minor units, signed.
  total            bigint           NOT NULL,
  -- Over orders and credit notes.
  first_ordered_at timestamptz      NOT NULL,
  last_ordered_at  timestamptz      NOT NULL,
  PRIMARY KEY (customer_id, currency)
);

-- One index for each sort of the list: a page continues behind the last key of the one before.
CREATE INDEX IF NOT EXISTS customers_v1_by_last_order
  ON customers_v1 (last_ordered_at DESC, customer_id DESC, currency DESC);
CREATE INDEX IF NOT EXISTS customers_v1_by_last_order_in_currency
  ON customers_v1 (currency, last_ordered_at DESC, customer_id DESC);
-- Totals are compared in one currency only.
CREATE INDEX IF NOT EXISTS customers_v1_by_total
  ON customers_v1 (currency, total DESC, customer_id DESC);
