package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/sallyport-ci/sallyport"
)

//go:embed migrations
var migrations embed.FS

// versionTable records which migrations were applied. A database that has it
// is ours.
const versionTable = "sallyport_version"

const currentVersion = "SELECT COALESCE(MAX(version_id), 0) FROM " + versionTable + " WHERE is_applied"

// migrate brings the database to the present version. The caller keeps other processes out.
func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations/"+s.d.name)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return s.migrateWith(ctx, files)
}

func (s *Store) migrateWith(ctx context.Context, files fs.FS) error {
	p, err := goose.NewProvider(s.d.goose, s.write, files, goose.WithTableName(versionTable))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	sources := p.ListSources()
	target := sources[len(sources)-1].Version
	version, err := s.version(ctx)
	if err != nil {
		return err
	}
	switch {
	case version == target:
		return nil
	case version > target:
		return sallyport.Errorf(sallyport.CodeConflict, "the database is of version %d, this program knows versions up to %d", version, target).
			WithHint("run the newer Sallyport that wrote it, or restore the backup from before the upgrade")
	case s.asIs && version == 0:
		return noDatabase()
	case s.asIs:
		return sallyport.Errorf(sallyport.CodeConflict, "the database is of version %d, this program knows version %d", version, target).
			WithHint("start Sallyport on it once, which brings it to this version, or use the version that wrote it")
	case version > 0 && s.file != "":
		backup := fmt.Sprintf("%s.v%d-%s", s.file, version, s.clock().UTC().Format("20060102T150405.000"))
		if err := s.backupSQLite(ctx, backup); err != nil {
			return fmt.Errorf("back up before migrating: %w", err)
		}
		s.log.InfoContext(ctx, "database was backed up before its migration", "file", backup, "version", version)
	}
	start := s.clock()
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate database: %w", s.fail(err))
	}
	s.log.InfoContext(ctx, "database was migrated", "from", version, "to", target, "took", s.clock().Sub(start).Round(time.Millisecond))
	return nil
}

// version returns the version of the database, 0 when it is empty, and refuses one that is not ours.
func (s *Store) version(ctx context.Context) (version int64, err error) {
	tables, err := names(ctx, s.write, s.d.tables)
	if err != nil {
		if s.d.classify(err) == faultOther {
			return 0, &sallyport.Error{Code: sallyport.CodeInvalid, Message: "the database cannot be read",
				Hint: "look whether the address is that of a Sallyport database", Err: err}
		}
		return 0, s.fail(err)
	}
	if len(tables) == 0 {
		return 0, nil
	}
	if !slices.Contains(tables, versionTable) {
		return 0, sallyport.Errorf(sallyport.CodeInvalid, "the database holds tables of something else").
			WithHint("give Sallyport a database of its own")
	}
	if err := s.write.QueryRowContext(ctx, currentVersion).Scan(&version); err != nil {
		return 0, s.fail(err)
	}
	return version, nil
}

func names(ctx context.Context, db *sql.DB, query string) ([]string, error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, rows.Err()
}
