CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
-- Features in use. A program that does not know one with incompatible = 1 refuses the store.
CREATE TABLE feature (name TEXT PRIMARY KEY, incompatible INTEGER NOT NULL) WITHOUT ROWID;
-- Rows in the order they came, so that the files of one tree lie together; found by digest.
-- plain: bytes is an LZ4 block of that many; NULL: the bytes themselves.
CREATE TABLE small_blob (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    bytes BLOB NOT NULL,
    plain INTEGER
);
CREATE TABLE large_blob (digest BLOB PRIMARY KEY, size INTEGER NOT NULL, used INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE object (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, bytes BLOB NOT NULL);
-- AUTOINCREMENT: an ordinal is part of fileids and never used again.
CREATE TABLE snapshot (
    ordinal INTEGER PRIMARY KEY AUTOINCREMENT CHECK (ordinal < 4194304),
    digest BLOB NOT NULL UNIQUE,
    nodes INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);
CREATE TABLE step (
    key BLOB PRIMARY KEY,
    snapshot BLOB NOT NULL,
    parent BLOB,
    instruction BLOB NOT NULL,
    inputs BLOB NOT NULL,
    upstream BLOB,
    created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE pocker (name BLOB PRIMARY KEY, config BLOB NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE pocker_step (
    name BLOB NOT NULL,
    position INTEGER NOT NULL,
    key BLOB NOT NULL,
    PRIMARY KEY (name, position)
) WITHOUT ROWID;
CREATE TABLE record (
    kind TEXT NOT NULL,
    id BLOB NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
