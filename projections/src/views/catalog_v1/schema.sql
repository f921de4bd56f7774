-- Trigrams, for words that are spelled almost like the product's. A role that may create schemas in the database may
-- create this extension.
CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- Products, for search, lists and suggestions.
CREATE TABLE IF NOT EXISTS catalog_v1 (
  -- Sorted by bytes, so that the order does not depend on the server's locale.
  sku         text COLLATE "C" PRIMARY KEY,
  -- May be empty.
  description text             NOT NULL,
  -- Minor units; null until the product is first priced.
  price       bigint,
  -- ISO 4217; null without a price.
  currency    text COLLATE "C",
  version     bigint           NOT NULL,
  -- The words of the description, reduced to their stems, and the SKU.
  search      tsvector         NOT NULL GENERATED ALWAYS AS (
    setweight(to_tsvector('english', description), 'B') || setweight(to_tsvector('simple', sku), 'A')
  ) STORED,
  -- The beginning of the description in lower case. An index has a limit for the length of its keys.
  suggestion  text COLLATE "C" NOT NULL GENERATED ALWAYS AS (lower(left(description, 200))) STORED,
  CHECK ((price IS NULL) = (currency IS NULL))
);

CREATE INDEX IF NOT EXISTS catalog_v1_by_words ON catalog_v1 USING gin (search);
CREATE INDEX IF NOT EXISTS catalog_v1_by_trigrams ON catalog_v1 USING gin (description gin_trgm_ops);
CREATE INDEX IF NOT EXISTS catalog_v1_by_suggestion ON catalog_v1 (suggestion, sku);
-- The sort by SKU of the products in a currency.
CREATE INDEX IF NOT EXISTS catalog_v1_by_currency ON catalog_v1 (currency, sku);
-- Prices are compared in one currency only. The index is read in both directions.
CREATE INDEX IF NOT EXISTS catalog_v1_by_price ON catalog_v1 (currency, price, sku);
