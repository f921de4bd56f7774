-- Products, for search by words, misspelt words and prefixes. pg_trgm computes the similarity of words.
DO $$
BEGIN
  CREATE EXTENSION IF NOT EXISTS pg_trgm;
EXCEPTION
  WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'role % may not create the extension pg_trgm in database %: run CREATE EXTENSION pg_trgm there as its owner',
      current_user, current_database() USING ERRCODE = 'insufficient_privilege';
  WHEN undefined_file OR feature_not_supported THEN
    RAISE EXCEPTION 'the server has no extension pg_trgm: install the contrib modules of Postgres on it'
      USING ERRCODE = 'undefined_file';
END
$$;

CREATE TABLE IF NOT EXISTS catalog_v1{build} (
  sku         text        COLLATE "C" PRIMARY KEY,
  description text        NOT NULL,
  -- The beginning of the description in lower case. Products are sorted by it, and prefixes and misspelt words are
  -- compared with it. The query for a prefix reads the names from the prefix to the prefix with U+10FFFF: only the
  -- order of code points, COLLATE "C", has all names with the prefix between these two. SKUs and currencies have it
  -- too, so the list has the same order in every database.
  name        text        COLLATE "C" NOT NULL,
  -- Minor units; null until the product is priced for the first time.
  price       bigint,
  currency    text        COLLATE "C",
  created_at  timestamptz NOT NULL,
  version     bigint      NOT NULL,
  -- Each word is indexed as its stem and as it is written.
  words       tsvector    NOT NULL GENERATED ALWAYS AS (
    setweight(to_tsvector('simple', sku), 'A')
      || setweight(to_tsvector('english', description), 'B')
      || setweight(to_tsvector('simple', description), 'C')
  ) STORED,
  CHECK ((price IS NULL) = (currency IS NULL))
);

CREATE INDEX IF NOT EXISTS catalog_v1{build}_words ON catalog_v1{build} USING gin (words);
CREATE INDEX IF NOT EXISTS catalog_v1{build}_trigrams ON catalog_v1{build} USING gin (name gin_trgm_ops);
-- A page continues after the last key of the previous page. Each sort order has an index for each of its filters: none,
-- one currency, a price in any currency, no price. A product without a currency has no price, so these filters are not
-- combined. A range of prices together with another sort order than the price has no index of its own.
CREATE INDEX IF NOT EXISTS catalog_v1{build}_by_name ON catalog_v1{build} (name, sku);
CREATE INDEX IF NOT EXISTS catalog_v1{build}_by_time ON catalog_v1{build} (created_at, sku);
CREATE INDEX IF NOT EXISTS catalog_v1{build}_by_currency_and_name ON catalog_v1{build} (currency, name, sku);
CREATE INDEX IF NOT EXISTS catalog_v1{build}_by_currency_and_time ON catalog_v1{build} (currency, created_at, sku);
CREATE INDEX IF NOT EXISTS catalog_v1{build}_by_price ON catalog_v1{build} (currency, price, sku);
CREATE INDEX IF NOT EXISTS catalog_v1{build}_priced_by_name ON catalog_v1{build} (name, sku)
  WHERE price IS NOT NULL;
CREATE INDEX IF NOT EXISTS catalog_v1{build}_priced_by_time ON catalog_v1{build} (created_at, sku)
  WHERE price IS NOT NULL;
CREATE INDEX IF NOT EXISTS catalog_v1{build}_unpriced_by_name ON catalog_v1{build} (name, sku)
  WHERE price IS NULL;
CREATE INDEX IF NOT EXISTS catalog_v1{build}_unpriced_by_time ON catalog_v1{build} (created_at, sku)
  WHERE price IS NULL;
