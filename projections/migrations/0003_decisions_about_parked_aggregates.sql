-- The decisions of operators about parked aggregates. Rows are only added: a retry that succeeds, and the drop, the
-- reset and the replacement of a build delete the rows of view_parked_keys and view_parked_commits, but none of these.
CREATE TABLE view_parked_decisions (
  -- In the order of the decisions.
  id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  decision     text        NOT NULL CHECK (decision IN ('RETRY', 'DISCARD')),
  decided_at   timestamptz NOT NULL DEFAULT now(),
  -- Who decided it; of a retry, it may be unknown.
  decided_by   text,
  -- Why; only of a discard.
  reason       text,
  -- The aggregate, in one build.
  view_name    text        NOT NULL,
  build        int         NOT NULL,
  topic        text        NOT NULL,
  partition    int         NOT NULL,
  key          text        NOT NULL,
  -- At the time of the decision: the commit that could not be applied, and why; the last commit that waited, and the
  -- numbers of all waiting commits and of their events.
  first_offset bigint      NOT NULL,
  error        text        NOT NULL,
  last_offset  bigint      NOT NULL,
  commits      bigint      NOT NULL,
  events       bigint      NOT NULL
);

-- The decisions about the aggregates that are discarded now.
INSERT INTO view_parked_decisions (decision, decided_at, decided_by, reason, view_name, build, topic, partition, key,
    first_offset, error, last_offset, commits, events)
SELECT 'DISCARD', discarded_at, discarded_by, reason, view_name, build, topic, partition, key, first_offset, error,
    coalesce(max(waiting."offset"), first_offset), count(waiting."offset"), coalesce(sum(waiting.events), 0)
FROM view_parked_keys AS parked
LEFT JOIN view_parked_commits AS waiting USING (view_name, build, topic, partition, key)
WHERE state = 'DISCARDED' AND discarded_at IS NOT NULL
GROUP BY parked.view_name, parked.build, parked.topic, parked.partition, parked.key
ORDER BY discarded_at;
