-- One file per pair. A node is one row: what its facets share is stored once.

CREATE TABLE meta (                -- root_id, account_key, last_run, next_op ...
  key TEXT PRIMARY KEY, value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The three trees. `parent_id` refers to a node, not to a row of the same tree: base is a per-node
-- merge base and need not be closed under parents. A side's register is NULL where it equals base,
-- and a side has the node exactly when its `item` is set.
CREATE TABLE node (
  node_id       INTEGER PRIMARY KEY,
  kind          INTEGER NOT NULL CHECK (kind IN (0, 1)),      -- 0 file, 1 folder
  base_parent   INTEGER, base_name   TEXT, base_size   INTEGER, base_hash   BLOB,
  local_parent  INTEGER, local_name  TEXT, local_size  INTEGER, local_hash  BLOB,
  local_item    ANY,     local_rev   ANY,  local_parked  TEXT,
  remote_parent INTEGER, remote_name TEXT, remote_size INTEGER, remote_hash BLOB,
  remote_item   ANY,     remote_rev  ANY,  remote_parked TEXT
) STRICT;

CREATE TABLE intent (              -- written before the first side effect, gone with the outcome
  op_id      INTEGER PRIMARY KEY,
  node_id    INTEGER NOT NULL UNIQUE,
  job        TEXT NOT NULL,        -- JSON: what was about to be done
  started_at INTEGER NOT NULL      -- seconds since the epoch, as all times here
) STRICT;

CREATE TABLE upload_session (      -- uploads that a service goes on with
  node_id    INTEGER PRIMARY KEY,
  key        INTEGER NOT NULL,     -- names what is staged
  token      TEXT NOT NULL,        -- the adapter's own text, free of account secrets
  expires_at INTEGER,
  size       INTEGER NOT NULL,
  hash       BLOB NOT NULL
) STRICT;

CREATE TABLE conflict (            -- what the user should look at; never input to the planner
  conflict_id INTEGER PRIMARY KEY,
  path        TEXT NOT NULL,
  copy_path   TEXT NOT NULL,
  rule        TEXT NOT NULL,
  detected_at INTEGER NOT NULL,
  resolved_at INTEGER
) STRICT;

CREATE TABLE failure (             -- items that did not work; a new version of the item lifts it
  path      TEXT PRIMARY KEY,
  kind      TEXT NOT NULL,
  message   TEXT NOT NULL,
  attempts  INTEGER NOT NULL,
  retry_at  INTEGER                -- NULL: tried again at every run
) STRICT, WITHOUT ROWID;

CREATE TABLE held (                -- deletions that a person must approve
  held_id    INTEGER PRIMARY KEY,
  kind       TEXT NOT NULL,
  side       TEXT NOT NULL,
  files      INTEGER NOT NULL,
  nodes      TEXT NOT NULL,        -- JSON array of node ids: exactly what an approval covers
  paths      TEXT NOT NULL,        -- JSON array, for people
  state      TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'rejected', 'done')),
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE history (             -- bounded; feeds `history`, `explain` and the slow-delete guard
  history_id INTEGER PRIMARY KEY,
  at         INTEGER NOT NULL,
  path       TEXT NOT NULL,
  moved_to   TEXT,
  op         TEXT NOT NULL,
  side       TEXT NOT NULL,
  why        TEXT NOT NULL,
  bytes      INTEGER NOT NULL,
  error      TEXT
) STRICT;
CREATE INDEX history_by_path ON history (path);
CREATE INDEX history_by_time ON history (at);
