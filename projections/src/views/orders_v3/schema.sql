-- Orders and credit notes, for lists with filters and for one order with its lines.
CREATE TABLE IF NOT EXISTS orders_v3{build} (
  -- The record's key: order_<26 characters> or creditnote_<26 characters>.
  order_id    text        PRIMARY KEY,
  kind        text        NOT NULL CHECK (kind IN ('SALE', 'CREDIT_NOTE')),
  invoice     text        NOT NULL,
  customer_id text,
  country     text        NOT NULL,
  ordered_at  timestamptz NOT NULL,
  currency    text        NOT NULL,
  -- Minor units, signed.
  total       bigint      NOT NULL,
  line_count  int         NOT NULL,
  version     bigint      NOT NULL
);

CREATE TABLE IF NOT EXISTS orders_v3_lines{build} (
  order_id    text   NOT NULL,
  -- From 1, in the order of the event.
  line_number int    NOT NULL,
  sku         text   NOT NULL,
  description text,
  quantity    bigint NOT NULL,
  -- Millionths of the major unit.
  unit_price  bigint NOT NULL,
  -- Minor units, signed.
  amount      bigint NOT NULL,
  PRIMARY KEY (order_id, line_number)
);

-- Every list is sorted by (ordered_at, order_id), descending: a page continues after the last key of the previous page.
-- Postgres sorts by order_id and compares it with a cursor in the same collation, the database's, so pages neither
-- repeat nor skip an order in any locale. Ids consist of lower-case letters, digits and one underscore, so most locales
-- sort them as COLLATE "C" does. In others, such as Czech with its letter ch, only the sequence of orders with the same
-- time differs.
-- A list is read as one part per kind, so these indexes serve every combination of filters without an invoice number: a
-- part reads only the rows that it returns.
CREATE INDEX IF NOT EXISTS orders_v3{build}_by_kind
  ON orders_v3{build} (kind, ordered_at DESC, order_id DESC);
CREATE INDEX IF NOT EXISTS orders_v3{build}_by_customer_and_kind
  ON orders_v3{build} (customer_id, kind, ordered_at DESC, order_id DESC);
CREATE INDEX IF NOT EXISTS orders_v3{build}_by_country_and_kind
  ON orders_v3{build} (country, kind, ordered_at DESC, order_id DESC);
CREATE INDEX IF NOT EXISTS orders_v3{build}_by_customer_country_and_kind
  ON orders_v3{build} (customer_id, country, kind, ordered_at DESC, order_id DESC);
-- An invoice number belongs to a few orders at most, so this index also serves the combinations with other filters.
CREATE INDEX IF NOT EXISTS orders_v3{build}_by_invoice_and_kind
  ON orders_v3{build} (invoice, kind, ordered_at DESC, order_id DESC);
