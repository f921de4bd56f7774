-- Whether the build has once read the journals to the ends that they had after it was created. Until then, a build that
-- serves answers no queries, because its rows are only a part of the view.
ALTER TABLE view_builds ADD COLUMN caught_up boolean NOT NULL DEFAULT false;
