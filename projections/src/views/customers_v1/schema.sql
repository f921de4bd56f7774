-- The totals of each customer in each currency. All their orders and credit notes feed a row, so it has sums and extremes
-- only, which do not depend on the order of events.
CREATE TABLE IF NOT EXISTS customers_v1{build} (
  customer_id    text        COLLATE "C" NOT NULL,
  currency       text        COLLATE "C" NOT NULL,
  orders         bigint      NOT NULL,
  credit_notes   bigint      NOT NULL,
  -- Of both.
  lines          bigint      NOT NULL,
  -- Minor units: orders plus credit notes, which are below zero.
  total          bigint      NOT NULL,
  -- Times of the first and the last order or credit note.
  first_order_at timestamptz NOT NULL,
  last_order_at  timestamptz NOT NULL,
  PRIMARY KEY (customer_id, currency)
);

-- The orders of the list: by total within a currency, and by time within a currency or over all.
CREATE INDEX IF NOT EXISTS customers_v1{build}_by_total ON customers_v1{build} (currency, total, customer_id);
CREATE INDEX IF NOT EXISTS customers_v1{build}_by_currency_and_time ON customers_v1{build} (currency, last_order_at, customer_id);
CREATE INDEX IF NOT EXISTS customers_v1{build}_by_time ON customers_v1{build} (last_order_at, customer_id, currency);
