package sallyport

import (
	"context"
	"io"
)

// Image is an OCI image for this platform, resolved to digests (OCI image
// specification v1.1).
type Image struct {
	Reference string       `json:"reference"` // as written
	Name      string       `json:"name"`      // full name of its repository, with the registry
	Digest    Digest       `json:"digest"`    // of its manifest
	Layers    []ImageLayer `json:"layers"`    // from the bottom up
	Config    ImageConfig  `json:"config"`
	// Anonymous is set when it was found without a credential; its layers are fetched so too.
	Anonymous bool `json:"anonymous,omitempty"`
}

// ImageLayer is one layer: a tar, mostly compressed.
type ImageLayer struct {
	Digest    Digest `json:"digest"`  // of the blob
	DiffID    Digest `json:"diff_id"` // of the tar in it
	Size      int64  `json:"size"`    // of the blob
	MediaType string `json:"media_type"`
}

// ImageConfig is how the image says it is to be run.
type ImageConfig struct {
	Env        []EnvVar `json:"env,omitempty"`
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	WorkingDir string   `json:"working_dir,omitempty"`
	User       string   `json:"user,omitempty"`
	Ports      []int    `json:"ports,omitempty"` // TCP ports that it exposes
}

// Images fetches images by way of the control plane: a room has no network. A
// registry's word is believed no further than its digests prove it.
//
// Errors: CodeInvalid for a malformed reference, or an image that is too large or
// of another platform; CodeNotFound; CodeDenied when the registry wants a
// credential; CodeUnavailable when it cannot be reached.
type Images interface {
	// Resolve finds what the reference names now; anonymous: as somebody without a
	// credential would see it.
	Resolve(ctx context.Context, reference string, anonymous bool) (Image, error)
	// Layer returns a blob of the image. Its digest is verified while it is read; the
	// fault is an error at the latest at the end.
	Layer(ctx context.Context, i Image, d Digest) (io.ReadCloser, error)
}
