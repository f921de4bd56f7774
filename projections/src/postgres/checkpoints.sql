-- How far each view has read, with the void rule's state there. Written in one transaction with the view's rows.
CREATE TABLE IF NOT EXISTS view_checkpoints (
  view_name   text   NOT NULL,
  topic       text   NOT NULL,
  partition   int    NOT NULL,
  -- The guard: a projector moves it only from the offset at which it read it.
  next_offset bigint NOT NULL,
  checkpoint  jsonb  NOT NULL,
  PRIMARY KEY (view_name, topic, partition)
);
