-- Whether the build has once read the journals to the ends that they had after it was created. Until then, a build that
-- serves answers no queries, because its rows are only a part of the view.
ALTER TABLE view_builds ADD COLUMN caught_up boolean NOT NULL DEFAULT false;

-- The builds that answer queries today go on answering them.
UPDATE view_builds SET caught_up = true WHERE state = 'SERVING' AND has_tables;
