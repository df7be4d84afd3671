-- What a mothership knows. Times are seconds since 1970. Tokens stand here as SHA-256 only.

CREATE TABLE devices (
    name     TEXT PRIMARY KEY,
    token    BLOB NOT NULL UNIQUE,
    enrolled REAL NOT NULL,
    seen     REAL,
    state    TEXT NOT NULL DEFAULT 'registered',  -- what it was told to be
    version  TEXT NOT NULL DEFAULT '',
    cause    TEXT NOT NULL DEFAULT '',            -- the action of its last message
    rev      INTEGER,                             -- the configuration that it uses
    rejected INTEGER,                             -- the one that it could not use
    files    INTEGER,                             -- of its backlog
    bytes    INTEGER,
    error    TEXT NOT NULL DEFAULT '',
    info     TEXT NOT NULL DEFAULT '{}'
) STRICT, WITHOUT ROWID;

-- What a device is to be; '' stands for every device that has no row of its own.
CREATE TABLE desired (
    device TEXT PRIMARY KEY,
    rev    INTEGER NOT NULL UNIQUE,
    config TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE revisions (
    rev    INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    at     REAL NOT NULL
) STRICT;

CREATE TABLE actions (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    id     TEXT NOT NULL,
    device TEXT NOT NULL,
    action TEXT NOT NULL,
    queued REAL NOT NULL,
    sent   REAL,
    ended  REAL,
    answer TEXT NOT NULL DEFAULT '',              -- 'ack' or 'error' once it has ended
    told   TEXT NOT NULL DEFAULT 'null',          -- as JSON: what it came to, a report for example
    UNIQUE (device, id)
) STRICT;
CREATE INDEX actions_open ON actions (device, seq) WHERE ended IS NULL;

CREATE TABLE history (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    device TEXT NOT NULL,
    at     REAL NOT NULL,
    what   TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX history_of ON history (device, seq);
