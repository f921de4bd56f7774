-- The totals of each country in each currency. All orders and credit notes feed the rows, so they have sums and extremes
-- only, which do not depend on the order of events. The primary key is the order of the list.
CREATE TABLE IF NOT EXISTS country_sales_v1{build} (
  -- Spelled as in the source.
  country        text        COLLATE "C" NOT NULL,
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
  PRIMARY KEY (country, currency)
);

CREATE INDEX IF NOT EXISTS country_sales_v1{build}_by_currency ON country_sales_v1{build} (currency, country);
