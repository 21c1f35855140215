package engine

import (
	"context"

	"github.com/sallyport-ci/sallyport"
)

// audit implements sallyport.Audit.
type audit struct{ e *Engine }

func (s audit) Records(ctx context.Context, f sallyport.AuditFilter) ([]sallyport.AuditRecord, error) {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return nil, err
	}
	f.Limit = bound(sallyport.Page{Limit: f.Limit}).Limit
	var out []sallyport.AuditRecord
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		var err error
		out, err = tx.Audit().List(f)
		return err
	})
	return out, err
}

func (s audit) VerifyAudit(ctx context.Context) (sallyport.AuditReport, error) {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return sallyport.AuditReport{}, err
	}
	if s.e.trail == nil {
		return sallyport.AuditReport{}, sallyport.Errorf(sallyport.CodeUnavailable, "this instance keeps no audit log")
	}
	return s.e.trail.Verify(ctx)
}

// Ledger is the audit trail as the sequencer of the audit log sees it.
type Ledger struct{ store sallyport.Store }

// NewLedger returns the trail in a store.
func NewLedger(s sallyport.Store) Ledger { return Ledger{s} }

// Unlogged returns records that no entry of the log commits to yet, by Seq.
func (l Ledger) Unlogged(ctx context.Context, limit int) (out []sallyport.AuditRecord, err error) {
	err = l.store.View(ctx, func(tx sallyport.Tx) error {
		out, err = tx.Audit().Unlogged(limit)
		return err
	})
	return out, err
}

// SetLogged records which entry commits to the records from..to.
func (l Ledger) SetLogged(ctx context.Context, from, to, index int64) error {
	return l.store.Update(ctx, func(tx sallyport.Tx) error { return tx.Audit().SetLogged(from, to, index) })
}

// Range returns records from a Seq on.
func (l Ledger) Range(ctx context.Context, from int64, limit int) (out []sallyport.AuditRecord, err error) {
	err = l.store.View(ctx, func(tx sallyport.Tx) error {
		out, err = tx.Audit().Range(from, limit)
		return err
	})
	return out, err
}

// Count returns how many records there are, and how many are logged.
func (l Ledger) Count(ctx context.Context) (records, logged int64, err error) {
	err = l.store.View(ctx, func(tx sallyport.Tx) error {
		records, logged, err = tx.Audit().Count()
		return err
	})
	return records, logged, err
}

// Watch signals new records.
func (l Ledger) Watch() (<-chan struct{}, func()) { return l.store.Watch(topicAudit) }
