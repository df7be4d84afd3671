-- The ledger: the only durable memory of the agent. These comments are its specification.
-- All times are wall-clock seconds since 1970 unless a column says otherwise.

-- One row per version of a file that we have promised to store.
CREATE TABLE IF NOT EXISTS promise (
  seq         INTEGER PRIMARY KEY,           -- order in which promises were made
  id          BLOB    NOT NULL UNIQUE,       -- Candidate.identity: source, path and fingerprint
  source      TEXT    NOT NULL,              -- name of the source in the configuration
  path        BLOB    NOT NULL,              -- absolute path, as the bytes the kernel uses
  fingerprint TEXT    NOT NULL,              -- the version: device:inode:size:mtime_ns:ctime_ns
  size        INTEGER NOT NULL,              -- bytes
  modified    INTEGER NOT NULL,              -- mtime_ns cut to 63 bits; only for "oldest first"
  bucket      TEXT    NOT NULL,
  key         TEXT    NOT NULL,              -- decided when promised, never again
  target      INTEGER NOT NULL,              -- hash of bucket and key; only for "one at a time per target"
  carrier     TEXT    NOT NULL,              -- who carries it
  metadata    TEXT,                          -- object metadata as JSON; NULL: none
  state       INTEGER NOT NULL,              -- model.State
  due         REAL    NOT NULL DEFAULT 0,    -- the next step is not before: READY send, STORED release, DONE or DROPPED forget
  attempts    INTEGER NOT NULL DEFAULT 0,    -- times it was refused; unavailability is never counted
  pauses      INTEGER NOT NULL DEFAULT 0,    -- times it had a bucket paused that had worked until then
  lane        TEXT,                          -- SENT and later: where the carrier queued it; NULL: not known to be queued
  receipt     INTEGER,                       -- its number in that lane; NULL with lane
  changed_at  REAL    NOT NULL,              -- when `state` last changed
  note        TEXT                           -- last thing worth telling about it; NULL: nothing
);
CREATE INDEX IF NOT EXISTS ready      ON promise (source, carrier, bucket, modified) WHERE state = 0;
CREATE INDEX IF NOT EXISTS sent       ON promise (lane, receipt)      WHERE state = 1;
CREATE INDEX IF NOT EXISTS stored     ON promise (source, changed_at) WHERE state = 2;
CREATE INDEX IF NOT EXISTS finished   ON promise (due)                WHERE state IN (3, 4);
CREATE INDEX IF NOT EXISTS failed     ON promise (source)             WHERE state = 5;
CREATE INDEX IF NOT EXISTS unfinished ON promise (target)             WHERE state < 2;

-- How many promises stand where. Kept by the triggers below, so that nobody has to count a million rows.
CREATE TABLE IF NOT EXISTS tally (
  source TEXT    NOT NULL,
  state  INTEGER NOT NULL,
  files  INTEGER NOT NULL,
  bytes  INTEGER NOT NULL,
  PRIMARY KEY (source, state)
) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS promise_made AFTER INSERT ON promise BEGIN
  INSERT INTO tally VALUES (new.source, new.state, 1, new.size)
    ON CONFLICT (source, state) DO UPDATE SET files = files + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER IF NOT EXISTS promise_moved AFTER UPDATE OF state ON promise WHEN old.state <> new.state BEGIN
  UPDATE tally SET files = files - 1, bytes = bytes - old.size WHERE source = old.source AND state = old.state;
  INSERT INTO tally VALUES (new.source, new.state, 1, new.size)
    ON CONFLICT (source, state) DO UPDATE SET files = files + 1, bytes = bytes + new.size;
END;
CREATE TRIGGER IF NOT EXISTS promise_aged AFTER DELETE ON promise BEGIN
  UPDATE tally SET files = files - 1, bytes = bytes - old.size WHERE source = old.source AND state = old.state;
END;

-- What has happened in all, since the ledger began. Only ever grows, but for last_stored_at: when that was.
CREATE TABLE IF NOT EXISTS counter (
  source TEXT    NOT NULL,                   -- '' for what belongs to no source
  name   TEXT    NOT NULL,
  value  INTEGER NOT NULL,
  PRIMARY KEY (source, name)
) WITHOUT ROWID;

-- Buckets that refuse everything for the time being. A bucket that works has no row.
CREATE TABLE IF NOT EXISTS destination (
  bucket   TEXT    PRIMARY KEY,
  since    REAL    NOT NULL,                 -- when it began to refuse
  due      REAL    NOT NULL,                 -- when the next single file is tried
  failures INTEGER NOT NULL,                 -- refusals in a row; sets the pause between tries
  note     TEXT    NOT NULL                  -- what it said
) WITHOUT ROWID;

-- Multipart uploads that were begun, or are about to be, and were neither completed nor aborted as far as we know.
CREATE TABLE IF NOT EXISTS upload (
  promise   BLOB    PRIMARY KEY,             -- id of the promise; once that is not under way any more, the upload is aborted
  source    TEXT    NOT NULL,                -- whose way to S3 it took
  bucket    TEXT    NOT NULL,
  key       TEXT    NOT NULL,
  upload_id TEXT,                            -- as S3 names it; NULL: asked for, and the answer is not written down yet
  part_size INTEGER NOT NULL                 -- bytes of each part but the last
) WITHOUT ROWID;

-- How far each carrier's news has been read. Moves in the transaction that writes down the news.
CREATE TABLE IF NOT EXISTS position (
  carrier TEXT    PRIMARY KEY,
  next    INTEGER NOT NULL                   -- number of the first message not yet read
) WITHOUT ROWID;

-- Which generation of each lane is in use. A lane that had to be given up is never used under its name again,
-- so (lane, receipt) names one task for all time.
CREATE TABLE IF NOT EXISTS lane (
  source     TEXT    NOT NULL,
  slot       INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  PRIMARY KEY (source, slot)
) WITHOUT ROWID;

-- Sources of which nothing is to be sent, because somebody said so.
CREATE TABLE IF NOT EXISTS paused (
  source TEXT PRIMARY KEY                    -- '' for all of them
) WITHOUT ROWID;

-- The newest requests that were done, so that one that comes twice is done once.
CREATE TABLE IF NOT EXISTS answered (
  seq    INTEGER PRIMARY KEY,
  token  TEXT    NOT NULL UNIQUE,            -- clientToken of the request
  digest BLOB    NOT NULL,                   -- of the whole request: another one must not have its token
  answer TEXT    NOT NULL                    -- JSON
);

-- Promises that somebody asked for by a request and has not been told the end of.
CREATE TABLE IF NOT EXISTS posted (
  promise BLOB    PRIMARY KEY,               -- id of the promise
  token   TEXT    NOT NULL                   -- clientToken of the request; '' if it had none
) WITHOUT ROWID;

-- Events that nobody has taken yet, the oldest first. Bounded: see events.py.
CREATE TABLE IF NOT EXISTS event (
  id    INTEGER PRIMARY KEY AUTOINCREMENT,
  kind  TEXT    NOT NULL,
  at    REAL    NOT NULL,                    -- when it happened
  body  TEXT    NOT NULL                     -- JSON
);

-- Up to when the cycles of each source have been dealt with: what fell due later and was missed runs once.
CREATE TABLE IF NOT EXISTS rhythm (
  source TEXT PRIMARY KEY,
  rhythm TEXT NOT NULL,                      -- the schedule it holds for; another one begins anew
  since  REAL NOT NULL
) WITHOUT ROWID;

-- The last cycles of each source, and the one that is under way. Figures count objects, but for `bytes`.
CREATE TABLE IF NOT EXISTS cycle (
  seq      INTEGER PRIMARY KEY,              -- their order, whatever the clock said
  source   TEXT    NOT NULL,
  started  INTEGER NOT NULL,                 -- what {cycle} says in keys; whole seconds
  listed   INTEGER NOT NULL DEFAULT 0,       -- 1: all that goes in it has been promised
  finished REAL,                             -- NULL: something of it is under way
  found    INTEGER NOT NULL DEFAULT 0,
  uploaded INTEGER NOT NULL DEFAULT 0,
  failed   INTEGER NOT NULL DEFAULT 0,
  held     INTEGER NOT NULL DEFAULT 0,       -- left for the next cycle
  bytes    INTEGER NOT NULL DEFAULT 0,       -- of what was uploaded
  UNIQUE (source, started)
);

-- What goes in a cycle that is under way. A key is given once, so no cycle replaces what it has stored itself.
CREATE TABLE IF NOT EXISTS cycle_object (
  source  TEXT    NOT NULL,
  started INTEGER NOT NULL,                  -- of the cycle
  key     TEXT    NOT NULL,                  -- of the object; the id in hex of a promise that can have none
  promise BLOB    NOT NULL,                  -- its id
  bytes   INTEGER NOT NULL,
  PRIMARY KEY (source, started, key)
) WITHOUT ROWID;

-- Archives that were promised. Their bodies and the lists of their members lie in a folder of ours.
CREATE TABLE IF NOT EXISTS archive (
  name    TEXT PRIMARY KEY,                  -- of the body in that folder
  source  TEXT NOT NULL,
  promise BLOB NOT NULL                      -- its id; once that is finished, files and row may go
) WITHOUT ROWID;

-- Files that were brought here from a bucket. Without it they would all be fetched once more.
CREATE TABLE IF NOT EXISTS download (
  source TEXT NOT NULL,
  path   BLOB NOT NULL,                      -- relative to the folder of the source, as the bytes the kernel uses
  bucket TEXT NOT NULL,
  key    TEXT NOT NULL,
  etag   TEXT NOT NULL,                      -- of the version that was brought, or is about to get its name
  mark   TEXT NOT NULL,                      -- how that file is known again: inode:size:mtime_ns
  before TEXT NOT NULL,                      -- the same of the file whose place it takes; '': there was none of ours
  PRIMARY KEY (source, path)
) WITHOUT ROWID;
