package sallyport

import (
	"io/fs"
	"time"
)

// Artifact is something a job made and the control plane keeps: immutable,
// content-addressed, sealed at rest. An artifact of one file is that file;
// one of several is a deterministic tar of them, so that its digest depends on
// the content alone.
type Artifact struct {
	ID        ArtifactID     `json:"id"`
	Project   ProjectID      `json:"project"`
	Run       RunID          `json:"run"`
	Job       JobID          `json:"job"`
	Name      string         `json:"name"`     // unique within a run
	Filename  string         `json:"filename"` // to save it as
	MediaType string         `json:"media_type"`
	Digest    Digest         `json:"digest"` // computed by the control plane from the bytes it received
	Size      int64          `json:"size"`
	Tier      Tier           `json:"tier"`
	Files     []ArtifactFile `json:"files"`
	CreatedAt time.Time      `json:"created_at"`
}

// ArtifactFile is one file of an artifact.
type ArtifactFile struct {
	Path   string      `json:"path"` // slash-separated, relative, clean
	Mode   fs.FileMode `json:"mode"` // permission bits only
	Size   int64       `json:"size"`
	Digest Digest      `json:"digest"`
}

// Scope is the blob scope of the artifact: project, run and name.
func (a Artifact) Scope() Scope { return Scope{string(a.Project), string(a.Run), a.Name} }
