-- Every event, once. `event_id` is a UUIDv7: its order is the order of time, so that a new row is always among the last
-- ones and both a range of time and what retention deletes are ranges of the key.
CREATE TABLE wsgw_events (
    event_id uuid NOT NULL PRIMARY KEY,
    type text NOT NULL,
    user_id text NOT NULL,
    connection_id uuid NOT NULL,
    seq bigint NOT NULL,
    ordering_key text,
    event text NOT NULL
);

-- Their cost is the server's, and what several gateways write is too much to read through for one user.
CREATE INDEX wsgw_events_user_id ON wsgw_events (user_id, event_id);
CREATE INDEX wsgw_events_ordering_key ON wsgw_events (ordering_key, event_id) WHERE ordering_key IS NOT NULL;
