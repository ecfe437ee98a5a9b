-- What was refused and quarantined, by run and reason, and what people decided on it. One row per entry.
--   event                     refused, quarantined: by the pipeline; released, confirmed: by a person
--   symbol                    null where several are meant
--   first_session, last_session  both inclusive, of ``cells`` cells
--   decided_by, run_id        the person, or the run
CREATE VIEW gold_quality_log AS
SELECT q.logged_at AS logged_at, q.event AS event, q.dataset AS dataset, q.provider AS provider, q.symbol AS symbol,
       q.first_session AS first_session, q.last_session AS last_session, q.cells AS cells, q.decided_by AS decided_by,
       q.run_id AS run_id, q.reason AS reason
  FROM quality_log q
