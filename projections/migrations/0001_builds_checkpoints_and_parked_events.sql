-- Which builds of each view exist, and which one answers queries. A build has tables of its own.
CREATE TABLE view_builds (
  view_name   text        NOT NULL,
  -- From 1; a number is never used again.
  build       int         NOT NULL,
  state       text        NOT NULL CHECK (state IN ('BUILDING', 'SERVING', 'PREVIOUS', 'DROPPED')),
  -- Whether its tables were created. If one of them is missing later, the build is replaced by one with another number.
  has_tables  boolean     NOT NULL DEFAULT false,
  created_at  timestamptz NOT NULL DEFAULT now(),
  -- When its state changed last.
  changed_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (view_name, build)
);
CREATE UNIQUE INDEX view_builds_serving ON view_builds (view_name) WHERE state = 'SERVING';

-- How far each build in Postgres has read, with the void rule's state there. Written in one transaction with its rows.
CREATE TABLE view_build_checkpoints (
  view_name   text   NOT NULL,
  build       int    NOT NULL,
  topic       text   NOT NULL,
  partition   int    NOT NULL,
  -- The guard: a projector moves it only from the offset at which it read it.
  next_offset bigint NOT NULL,
  checkpoint  jsonb  NOT NULL,
  PRIMARY KEY (view_name, build, topic, partition)
);

-- The aggregates that a build can't apply, and the decisions of operators about them. Builds in the CQL store have
-- theirs here, too.
CREATE TABLE view_parked_keys (
  view_name    text        NOT NULL,
  build        int         NOT NULL,
  topic        text        NOT NULL,
  partition    int         NOT NULL,
  -- The record's key: the aggregate.
  key          text        NOT NULL,
  state        text        NOT NULL DEFAULT 'PARKED' CHECK (state IN ('PARKED', 'RETRY', 'DISCARDED')),
  -- The commit that could not be applied, and why.
  first_offset bigint      NOT NULL,
  error        text        NOT NULL,
  parked_at    timestamptz NOT NULL DEFAULT now(),
  attempts     int         NOT NULL DEFAULT 1,
  -- Of a discarded key: who discarded it, when and why.
  discarded_by text,
  discarded_at timestamptz,
  reason       text,
  PRIMARY KEY (view_name, build, topic, partition, key)
);

-- The commits that wait behind a parked one, and that one itself, in the order of their offsets.
CREATE TABLE view_parked_commits (
  view_name text   NOT NULL,
  build     int    NOT NULL,
  topic     text   NOT NULL,
  partition int    NOT NULL,
  key       text   NOT NULL,
  "offset"  bigint NOT NULL,
  -- The aggregate's version before the commit, and the number of its events.
  version   bigint NOT NULL,
  events    int    NOT NULL,
  PRIMARY KEY (view_name, build, topic, partition, key, "offset"),
  FOREIGN KEY (view_name, build, topic, partition, key) REFERENCES view_parked_keys
);

-- Tables of versions without builds.
DROP TABLE IF EXISTS view_checkpoints, orders_v2_lines, orders_v2, catalog_v1, customers_v1, country_sales_v1;
