package devserver

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	"go.temporal.io/server/schema"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// sqliteMagic opens every SQLite 3 file (https://www.sqlite.org/fileformat2.html, section 1.3).
	sqliteMagic = "SQLite format 3\x00"

	// checkTime bounds the integrity check at start: it reads the whole file, and a start must not take longer because
	// there is more history. A file too large for it has had its header checked.
	checkTime = 700 * time.Millisecond
)

// openDatabase makes sure that dir/temporal.db is a sound SQLite file with Temporal's schema and mode 0600, and
// returns its path. Crash-safe: the schema is one transaction, and an empty file counts as new.
func openDatabase(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, databaseName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", fmt.Errorf("Temporal's database: %w", writeError(dir, err))
	}
	// SQLite gives -wal and -shm the mode of the database.
	err = f.Chmod(0o600)
	if err == nil {
		err = checkHeader(f, path)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return "", err
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Chmod(path+suffix, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("Temporal's database: %w", err)
		}
	}
	db, err := openSQLite(path)
	if err != nil {
		return "", databaseError(path, err)
	}
	err = quickCheck(ctx, db, path)
	if err == nil {
		err = ensureSchema(ctx, db, path)
	}
	if closeErr := db.Close(); err == nil && closeErr != nil {
		err = databaseError(path, closeErr)
	}
	return path, err
}

func checkHeader(f *os.File, path string) error {
	header := make([]byte, 100)
	n, err := io.ReadFull(f, header)
	switch {
	case n == 0 && errors.Is(err, io.EOF):
		return nil
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("Temporal's database: %w", err)
	case err != nil || string(header[:16]) != sqliteMagic:
		return damaged(path)
	}
	size := int64(binary.BigEndian.Uint16(header[16:18]))
	if size == 1 { // 65536 does not fit
		size = 1 << 16
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("Temporal's database: %w", err)
	}
	if size < 512 || size&(size-1) != 0 || info.Size()%size != 0 {
		return damaged(path)
	}
	return nil
}

func openSQLite(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+sqlitePath(path)+"?mode=rw&_pragma=busy_timeout=2000&_pragma=journal_mode=wal&_pragma=synchronous=2&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// sqlitePath escapes what has a meaning in SQLite's file URIs (https://www.sqlite.org/uri.html).
func sqlitePath(path string) string { return (&url.URL{Path: path}).EscapedPath() }

func quickCheck(ctx context.Context, db *sql.DB, path string) error {
	checkCtx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	var verdict string
	err := db.QueryRowContext(checkCtx, "PRAGMA quick_check(1)").Scan(&verdict)
	switch {
	case err == nil && verdict != "ok":
		return damaged(path)
	case err != nil && ctx.Err() == nil && checkCtx.Err() != nil:
		return nil
	case err != nil:
		return databaseError(path, err)
	}
	return nil
}

// execInTx lets Temporal's set-up run its statements in a transaction of ours.
type execInTx struct {
	sqlplugin.AdminDB
	tx *sql.Tx
}

func (e execInTx) Exec(stmt string, args ...any) error {
	_, err := e.tx.Exec(stmt, args...) //nolint:noctx // the interface of Temporal has no context
	return err
}

// ensureSchema creates the tables in one transaction. The digest of the schema is kept as user_version, so that a
// build with another schema refuses the file instead of misreading it.
func ensureSchema(ctx context.Context, db *sql.DB, path string) error {
	want, err := schemaVersion()
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return databaseError(path, err)
	}
	defer func() { _ = tx.Rollback() }()
	var tables, have int64
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE type = 'table'").Scan(&tables); err != nil {
		return databaseError(path, err)
	}
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&have); err != nil {
		return databaseError(path, err)
	}
	if tables > 0 {
		if have != want {
			return fmt.Errorf("%s was made by another version of Temporal (schema %08x, this build has %08x): run the rekey version that made it, or move the data directory away", path, have, want)
		}
		return nil
	}
	if err := sqliteschema.SetupSchemaOnDB(execInTx{tx: tx}); err != nil {
		return databaseError(path, err)
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", want)); err != nil {
		return databaseError(path, err)
	}
	if err := tx.Commit(); err != nil {
		return databaseError(path, err)
	}
	return nil
}

// schemaVersion is a positive 31-bit digest of the SQLite schema of the linked Temporal server.
func schemaVersion() (int64, error) {
	h := sha256.New()
	for _, name := range []string{"sqlite/v3/temporal/schema.sql", "sqlite/v3/visibility/schema.sql"} {
		text, err := fs.ReadFile(schema.Assets(), name)
		if err != nil {
			return 0, fmt.Errorf("Temporal's schema: %w", err)
		}
		h.Write(text)
	}
	return int64(binary.BigEndian.Uint32(h.Sum(nil)))&0x7fffffff | 1, nil
}

// checkpoint moves the write-ahead log into the database file, so that a stopped server is one file to copy.
func checkpoint(path string) error {
	db, err := openSQLite(path)
	if err != nil {
		return databaseError(path, err)
	}
	_, err = db.ExecContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)")
	if closeErr := db.Close(); err == nil {
		err = closeErr
	}
	return databaseError(path, err)
}

func damaged(path string) error {
	return fmt.Errorf("%s is damaged or is no SQLite database: restore it with its -wal file from a backup, or move both away to start empty (open incidents are then lost to the engine, sealed bundles are not)", path)
}

// databaseError tells damage and a full disk from other failures.
func databaseError(path string, err error) error {
	if err == nil {
		return nil
	}
	var se *sqlite.Error
	if errors.As(err, &se) {
		switch se.Code() & 0xff {
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return damaged(path)
		case sqlite3.SQLITE_FULL:
			return fmt.Errorf("disk of %s is full: free some space and start again", filepath.Dir(path))
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return fmt.Errorf("%s is locked by another program: close whatever has it open", path)
		}
	}
	return fmt.Errorf("Temporal's database %s: %w", path, writeError(filepath.Dir(path), err))
}
