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

-- What has happened in all, since the ledger began. Only ever grows.
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
