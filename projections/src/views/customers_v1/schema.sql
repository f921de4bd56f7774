-- The totals of each customer in each currency. All orders and credit notes of the customer update the same row, so the
-- row has only sums, minimums and maximums, which do not depend on the sequence of events.
CREATE TABLE IF NOT EXISTS customers_v1{build} (
  customer_id    text        COLLATE "C" NOT NULL,
  currency       text        COLLATE "C" NOT NULL,
  orders         bigint      NOT NULL,
  credit_notes   bigint      NOT NULL,
  -- Number of lines of orders and credit notes.
  lines          bigint      NOT NULL,
  -- Minor units: orders plus credit notes, which are below zero.
  total          bigint      NOT NULL,
  -- Times of the first and the last order or credit note.
  first_order_at timestamptz NOT NULL,
  last_order_at  timestamptz NOT NULL,
  PRIMARY KEY (customer_id, currency)
);

-- One index per sort order of the list: by total within a currency, by time within a currency, by time over all
-- currencies.
CREATE INDEX IF NOT EXISTS customers_v1{build}_by_total ON customers_v1{build} (currency, total, customer_id);
CREATE INDEX IF NOT EXISTS customers_v1{build}_by_currency_and_time ON customers_v1{build} (currency, last_order_at, customer_id);
CREATE INDEX IF NOT EXISTS customers_v1{build}_by_time ON customers_v1{build} (last_order_at, customer_id, currency);
