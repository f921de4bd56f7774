-- Orders and credit notes of each country: one row per currency.
CREATE TABLE IF NOT EXISTS country_sales_v1 (
  -- Spelled as in the source. Sorted by bytes, so that the order does not depend on the server's locale.
  country          text COLLATE "C" NOT NULL,
  -- ISO 4217.
  currency         text COLLATE "C" NOT NULL,
  orders           bigint           NOT NULL,
  credit_notes     bigint           NOT NULL,
  -- Minor units, signed.
  total            bigint           NOT NULL,
  -- Over orders and credit notes.
  first_ordered_at timestamptz      NOT NULL,
  last_ordered_at  timestamptz      NOT NULL,
  -- It is also the index for the sort by country.
  PRIMARY KEY (country, currency)
);

-- A client can send any number of countries, so each list with a filter has an index as well.
CREATE INDEX IF NOT EXISTS country_sales_v1_by_country_in_currency
  ON country_sales_v1 (currency, country);
-- Totals are compared in one currency only.
CREATE INDEX IF NOT EXISTS country_sales_v1_by_total
  ON country_sales_v1 (currency, total DESC, country DESC);
