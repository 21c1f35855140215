// Package sqlstore is sallyport.Store on SQLite and on PostgreSQL: every SQL
// statement of Sallyport stands here, written once for both engines. It knows
// the nouns of the root package and nothing of what they mean; the engine
// decides, daemon opens it, nobody else may see it.
//
// # One writer
//
// Every state change writes an audit record whose number is gap-free in commit
// order, so writers have to queue up on that number until they are durable:
// more than one at a time would gain nothing on either engine. The store makes
// a virtue of it. Updates take turns on one connection, each inside a
// savepoint of its own, and all that were waiting are made durable by one
// commit (see writer). So Update is serialisable without retries, a fault of
// one is undone alone, and one flush of the disk serves many callers. With
// PostgreSQL an advisory lock keeps the turns of several processes apart.
//
// Views run beside it on connections of their own, each in a snapshot.
//
// # Conventions
//
// Ids are text and sort by time, times are unix microseconds set by Go (0 is
// the zero time), JSON is text. Text has to be UTF-8 without NUL
// (sallyport.CodeInvalid). The differences of the engines stand in dialect, and
// in the column types of migrations/sqlite and migrations/postgres.
package sqlstore
