package sqlstore

import (
	"github.com/pressly/goose/v3"

	"github.com/sallyport-ci/sallyport"
)

// dialect holds all in which the engines differ, but for how they are opened.
type dialect struct {
	name  string
	goose goose.Dialect
	// begin opens a transaction that keeps all other writers out.
	begin string
	// tables lists the tables of the database.
	tables string
	// claimLabelled is workClaim with the condition that all labels of a row are
	// among the JSON array $3; claimAny ignores labels.
	claimLabelled, claimAny string
	// embedded says that the engine runs in this process: it always answers, so no
	// context is watched, which costs more than a statement; a command costs no
	// round trip; and the driver leaves it to us to keep prepared statements.
	embedded bool
	// classify tells what a driver's error means.
	classify func(error) fault
}

// fault is the meaning of a driver's error.
type fault int

const (
	faultOther     fault = iota // a mistake of ours
	faultDuplicate              // a unique key exists already
	faultReference              // a foreign key has no counterpart
	faultText                   // text that the engine cannot keep
	faultFull                   // the disk is full; the transaction is gone
	faultLost                   // the connection, lock or file is not to be had; the transaction is gone
)

// ends reports whether the engine has given up the whole transaction, the
// turns of others in it included.
func (f fault) ends() bool { return f == faultFull || f == faultLost }

// explain turns a driver's error into one with a code.
func (f fault) explain(err error) error {
	switch f {
	case faultDuplicate:
		return &sallyport.Error{Code: sallyport.CodeConflict, Message: "it exists already", Err: err}
	case faultReference:
		return &sallyport.Error{Code: sallyport.CodeInvalid, Message: "it refers to something that does not exist", Err: err}
	case faultText:
		return &sallyport.Error{Code: sallyport.CodeInvalid, Message: "it holds text that the database cannot keep", Err: err}
	case faultFull:
		return &sallyport.Error{Code: sallyport.CodeUnavailable, Message: "the disk of the database is full",
			Hint: "free some space and try again; nothing that was acknowledged is lost", Err: err}
	case faultLost:
		return &sallyport.Error{Code: sallyport.CodeUnavailable, Message: "the database is not available",
			Hint: "try again; look whether the database and its disk are well", Err: err}
	default:
		return &sallyport.Error{Code: sallyport.CodeInternal, Message: "the database refused a statement", Err: err}
	}
}
