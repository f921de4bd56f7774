-- The totals of each country in each currency. All orders and credit notes of a country update the same row, so the row
-- has only sums, minimums and maximums, which do not depend on the sequence of events. The list is sorted by the
-- primary key.
CREATE TABLE IF NOT EXISTS country_sales_v1{build} (
  -- Spelled as in the source.
  country        text        COLLATE "C" NOT NULL,
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
  PRIMARY KEY (country, currency)
);

CREATE INDEX IF NOT EXISTS country_sales_v1{build}_by_currency ON country_sales_v1{build} (currency, country);
