package tlog

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/witness"
)

// An export is a directory that holds all it takes to check the audit trail
// without the installation:
//
//	records.jsonl  every record that the log covers, a line each, with its salt
//	witnessed      the newest checkpoint with cosignatures; missing without witnesses
//	log/           the log: checkpoint, bundles of entries, tiles of their hashes
//
// Records hold private facts; the log holds none.
const (
	exportRecords   = "records.jsonl"
	exportWitnessed = "witnessed"
	exportLog       = "log"
)

// maxExportLine bounds a line of records.jsonl.
const maxExportLine = 4 << 20

// exportedRecord is a line of records.jsonl. Detail is a string and not JSON in
// JSON: the commitment is to its bytes.
type exportedRecord struct {
	Seq      int64     `json:"seq"`
	At       time.Time `json:"at"`
	Actor    string    `json:"actor"`
	Action   string    `json:"action"`
	Object   string    `json:"object"`
	Detail   string    `json:"detail,omitempty"`
	Salt     []byte    `json:"salt"`
	LogIndex int64     `json:"log_index"`
}

// Export writes the trail and the log in dir to the directory out, which it
// makes and which must not be there. witnessed is the newest cosigned checkpoint,
// nil when there is none. It works beside a running control plane: what came
// after the checkpoint that it finds is left out.
func Export(ctx context.Context, source Source, dir string, witnessed []byte, out string) error {
	d, err := openLogDir(dir)
	if err != nil {
		return fmt.Errorf("export audit: %w", err)
	}
	defer d.close()
	if err := os.Mkdir(out, 0o700); err != nil {
		return fmt.Errorf("export audit: %w", err)
	}
	last, err := exportTree(d, path.Join(out, exportLog))
	if err != nil {
		return fmt.Errorf("export audit: %w", err)
	}
	if witnessed != nil {
		if err := os.WriteFile(path.Join(out, exportWitnessed), witnessed, 0o600); err != nil {
			return fmt.Errorf("export audit: %w", err)
		}
	}
	if err := exportTrail(ctx, source, last, path.Join(out, exportRecords)); err != nil {
		return fmt.Errorf("export audit: %w", err)
	}
	return nil
}

// exportTree copies the log up to its checkpoint and returns the last record that
// its last entry commits to: the largest number when that cannot be told, for a
// broken log is to be exported as it is.
func exportTree(d *logDir, out string) (last int64, err error) {
	raw, err := d.checkpoint()
	if err != nil {
		return 0, err
	}
	size, err := claimedSize(raw)
	if err != nil {
		return 0, err
	}
	write := func(name string, b []byte) error {
		name = path.Join(out, name)
		if err := os.MkdirAll(path.Dir(name), 0o700); err != nil {
			return err
		}
		return os.WriteFile(name, b, 0o600)
	}
	last = math.MaxInt64
	if size == 0 {
		last = -1
	}
	for n := uint64(0); n*layout.EntryBundleWidth < size; n++ {
		partial := layout.PartialTileSize(0, n, size)
		for _, file := range []struct {
			path func(uint8) string
			max  int64
		}{
			{func(p uint8) string { return layout.EntriesPath(n, p) }, maxBundleFile},
			{func(p uint8) string { return layout.TilePath(0, n, p) }, maxTileFile},
		} {
			name := file.path(partial)
			b, err := d.read(name, file.max)
			if partial != 0 && errors.Is(err, fs.ErrNotExist) { // the full one has replaced it since
				name = file.path(0)
				b, err = d.read(name, file.max)
			}
			if errors.Is(err, fs.ErrNotExist) {
				continue // whoever verifies will miss it
			}
			if err == nil {
				err = write(name, b)
			}
			if err != nil {
				return 0, err
			}
			var bundle api.EntryBundle
			if at := size - 1 - n*layout.EntryBundleWidth; file.max == maxBundleFile && bundle.UnmarshalText(b) == nil && at < uint64(len(bundle.Entries)) {
				if c, err := decodeChunk(bundle.Entries[at]); err == nil {
					last = c.to
				}
			}
		}
	}
	return last, write(layout.CheckpointPath, raw)
}

// claimedSize reads the size of a checkpoint that nobody verified.
func claimedSize(raw []byte) (uint64, error) {
	lines := strings.SplitN(string(raw), "\n", 3)
	var size uint64
	if len(lines) < 3 {
		return 0, errors.New("the log's checkpoint is malformed")
	}
	if _, err := fmt.Sscanf(lines[1], "%d", &size); err != nil || size > 1<<40 {
		return 0, errors.New("the log's checkpoint is malformed")
	}
	return size, nil
}

func exportTrail(ctx context.Context, source Source, last int64, name string) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	err = func() error {
		records := trail{source: source}
		for {
			if err := ctx.Err(); err != nil {
				return err
			}
			r, err := records.peek(ctx)
			if err != nil || r == nil || r.Seq > last {
				return err
			}
			for _, s := range []string{r.Actor, r.Action, r.Object, string(r.Detail)} {
				if !utf8.ValidString(s) {
					return fmt.Errorf("record %d is not valid UTF-8", r.Seq)
				}
			}
			if err := enc.Encode(exportedRecord{r.Seq, r.At.UTC(), r.Actor, r.Action, r.Object, string(r.Detail), r.Salt, r.LogIndex}); err != nil {
				return err
			}
			records.pop()
		}
	}()
	return errors.Join(err, w.Flush(), f.Sync(), f.Close())
}

// ExportReport is what an export proves.
type ExportReport struct {
	sallyport.AuditReport
	// Witnessed counts the records that the cosigned checkpoint covers; the later
	// ones are vouched for by the installation alone.
	Witnessed   int64      `json:"witnessed"`
	WitnessedAt *time.Time `json:"witnessed_at,omitempty"`
	Witnesses   []string   `json:"witnesses,omitempty"`
}

// ExportCheck says what an export has to satisfy.
type ExportCheck struct {
	Policy *witness.Policy // the log's key and whose cosignatures are enough
	// Within bounds the age of the cosignatures at Now: who holds the log's key can
	// write what came after them as he likes. 0: any age.
	Within time.Duration
	Now    time.Time
}

// VerifyExport checks an export with nothing but the policy: every record with
// its commitment, the entries with the Merkle root, the root with the signed
// checkpoint, and the tree with what the witnesses cosigned. Findings are in the
// report; an error means that the export cannot be read and names where.
func VerifyExport(ctx context.Context, dir string, check ExportCheck) (ExportReport, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return ExportReport{}, fmt.Errorf("verify export: %w", err)
	}
	defer root.Close()
	f, err := root.Open(exportRecords)
	if err != nil {
		return ExportReport{}, fmt.Errorf("verify export: %w", err)
	}
	defer f.Close()
	sub, err := root.OpenRoot(exportLog)
	if err != nil {
		return ExportReport{}, fmt.Errorf("verify export: %w", err)
	}
	d := &logDir{sub}
	defer d.close()
	head, err := d.checkpoint()
	if err != nil {
		return ExportReport{}, fmt.Errorf("verify export: %w", err)
	}
	origin, _, _ := strings.Cut(string(head), "\n")
	verifier := check.Policy.Log(origin)
	if verifier == nil {
		return ExportReport{}, sallyport.Errorf(sallyport.CodeInvalid, "the export is of log %.100q, which the witness policy does not name", origin).
			WithHint("get the log's key from those who run it, over another way than the export, and add: log VKEY")
	}
	a := &auditor{
		verifier: verifier,
		records:  trail{source: &exportSource{lines: bufio.NewReader(f)}},
		tree:     (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0),
	}
	var out ExportReport
	a.cosigned = witnessedHead(&logDir{root}, a, check, &out)
	if err := a.inspect(ctx, d); err != nil {
		return ExportReport{}, fmt.Errorf("verify export: %w", err)
	}
	a.report.OK = len(a.report.Problems) == 0
	out.AuditReport = a.report
	out.Witnessed = a.witnessed
	return out, nil
}

// witnessedHead reads what the witnesses cosigned; nil when the policy wants
// nobody or is not met, which is a problem then.
func witnessedHead(d *logDir, a *auditor, check ExportCheck, out *ExportReport) *cosigned {
	raw, err := d.read(exportWitnessed, maxCheckpointFile)
	if err != nil {
		if !check.Policy.Unwitnessed() {
			a.problem(-1, problemWitness, "there is no checkpoint that witnesses cosigned: whoever holds the log's key could have rewritten everything")
		}
		return nil
	}
	w, err := check.Policy.Check(raw)
	if err != nil || w.Origin != a.verifier.Name() {
		a.problem(-1, problemWitness, "the cosigned checkpoint was not signed by this log's key, or is malformed")
		return nil
	}
	out.Witnesses = w.By
	if !w.Enough {
		a.problem(-1, problemWitness, fmt.Sprintf("the witness policy is not met: only [%s] cosigned", strings.Join(w.By, " ")))
		return nil
	}
	if !w.At.IsZero() {
		at := w.At.UTC()
		out.WitnessedAt = &at
		if check.Within > 0 && check.Now.Sub(at) > check.Within {
			a.problem(-1, problemWitness, fmt.Sprintf("the newest cosignatures are of %s: what was recorded since is vouched for by the log's owner alone", at.Format(time.RFC3339)))
		}
	}
	return &cosigned{size: w.Size, root: w.Root}
}

// cosigned is a tree that others vouch for.
type cosigned struct {
	size uint64
	root []byte
}

// exportSource reads records.jsonl once, in order.
type exportSource struct {
	lines *bufio.Reader
	line  int
}

var _ Source = (*exportSource)(nil)

func (s *exportSource) Range(_ context.Context, from int64, limit int) ([]sallyport.AuditRecord, error) {
	var out []sallyport.AuditRecord
	for len(out) < limit {
		r, err := s.read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s line %d: %v", exportRecords, s.line, err)
		}
		if r.Seq < from {
			return nil, sallyport.Errorf(sallyport.CodeInvalid, "%s line %d: record %d stands after record %d", exportRecords, s.line, r.Seq, from-1)
		}
		from = r.Seq + 1
		out = append(out, r)
	}
	return out, nil
}

func (s *exportSource) read() (sallyport.AuditRecord, error) {
	s.line++
	var line []byte
	for {
		part, err := s.lines.ReadSlice('\n')
		if line = append(line, part...); len(line) > maxExportLine {
			return sallyport.AuditRecord{}, fmt.Errorf("longer than %d bytes", maxExportLine)
		}
		if err == nil {
			break
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if errors.Is(err, io.EOF) && len(line) > 0 {
			return sallyport.AuditRecord{}, errors.New("cut off in the middle")
		}
		return sallyport.AuditRecord{}, err
	}
	dec := json.NewDecoder(strings.NewReader(string(line)))
	dec.DisallowUnknownFields()
	var r exportedRecord
	if err := dec.Decode(&r); err != nil {
		return sallyport.AuditRecord{}, errors.New("not a record")
	}
	if dec.More() || r.Seq < 0 || r.Seq == math.MaxInt64 || r.LogIndex < -1 {
		return sallyport.AuditRecord{}, errors.New("not a record")
	}
	var detail json.RawMessage
	if r.Detail != "" {
		detail = json.RawMessage(r.Detail)
	}
	return sallyport.AuditRecord{Seq: r.Seq, At: r.At, Actor: r.Actor, Action: r.Action, Object: r.Object, Detail: detail, Salt: r.Salt, LogIndex: r.LogIndex}, nil
}

func (s *exportSource) Unlogged(context.Context, int) ([]sallyport.AuditRecord, error) {
	return nil, errors.ErrUnsupported
}
func (s *exportSource) SetLogged(context.Context, int64, int64, int64) error {
	return errors.ErrUnsupported
}
func (s *exportSource) Count(context.Context) (records, logged int64, err error) {
	return 0, 0, errors.ErrUnsupported
}

// LogKey returns the key of a log as witnesses and verifiers want it (C2SP
// signed-note).
func LogKey(origin string, public []byte) (string, error) {
	return note.NewEd25519VerifierKey(origin, public)
}
