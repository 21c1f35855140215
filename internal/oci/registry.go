package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/sallyport-ci/sallyport"
)

// Bounds of an image.
const (
	maxReference = 512
	maxLayers    = 127 // what overlay file systems and other clients take
	maxLayer     = 8 << 30
	maxImage     = 16 << 30
	maxPorts     = 32
	maxConfig    = 1 << 20
	maxEnv       = 1000
)

// Config says where layers are kept.
type Config struct {
	Blobs sallyport.Blobs
	// Registries are those that images may come from, as HOST or HOST:PORT; "*" is any.
	// What a workflow names is fetched by the control plane, from its place in the network.
	Registries []string
	// Transport is for tests; nil is the default one.
	Transport http.RoundTripper
}

// Registry is sallyport.Images on the registries of the network.
type Registry struct{ c Config }

var _ sallyport.Images = (*Registry)(nil)

// New returns a Registry. It reaches for nothing yet.
func New(c Config) (*Registry, error) {
	if c.Blobs == nil {
		return nil, errors.New("oci: a place for layers is needed")
	}
	if c.Transport == nil {
		c.Transport = remote.DefaultTransport
	}
	return &Registry{c}, nil
}

// scope is whose the layers are: nobody's, for their digest is all that counts.
var scope = sallyport.Scope{Name: "image-layer"}

func (r *Registry) options(ctx context.Context, anonymous bool) []remote.Option {
	var keychain authn.Keychain = authn.DefaultKeychain
	if anonymous {
		keychain = authn.NewMultiKeychain() // of none: no credential for any registry
	}
	return []remote.Option{
		remote.WithContext(ctx), remote.WithTransport(r.c.Transport), remote.WithAuthFromKeychain(keychain),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}),
	}
}

// Resolve implements sallyport.Images.
func (r *Registry) Resolve(ctx context.Context, reference string, anonymous bool) (sallyport.Image, error) {
	none := sallyport.Image{}
	if len(reference) > maxReference {
		return none, sallyport.Errorf(sallyport.CodeInvalid, "the image reference %.60q… is longer than %d bytes", reference, maxReference)
	}
	ref, err := name.ParseReference(reference)
	if err != nil {
		return none, sallyport.Errorf(sallyport.CodeInvalid, "%.200q is no image: %v", reference, err).WithHint("write [REGISTRY/]NAME[:TAG][@DIGEST]")
	}
	host := ref.Context().RegistryStr()
	if !slices.Contains(r.c.Registries, host) && !slices.Contains(r.c.Registries, "*") {
		return none, sallyport.Errorf(sallyport.CodeDenied, "images of the registry %.200s are not allowed here", host).
			WithHint("an operator allows it with: sallyport up --registry %s", host)
	}
	image, err := remote.Image(ref, r.options(ctx, anonymous)...)
	if err != nil {
		return none, fault(reference, err)
	}
	digest, err := image.Digest()
	if err != nil {
		return none, fault(reference, err)
	}
	manifest, err := image.Manifest()
	if err != nil {
		return none, fault(reference, err)
	}
	if n := len(manifest.Layers); n > maxLayers {
		return none, sallyport.Errorf(sallyport.CodeInvalid, "the image %.200q has %d layers; at most %d are taken", reference, n, maxLayers)
	}
	if s := manifest.Config.Size; s < 0 || s > maxConfig { // a negative one is read without end
		return none, sallyport.Errorf(sallyport.CodeInvalid, "the image %.200q has a configuration of more than %d KiB", reference, maxConfig>>10)
	}
	raw, err := image.RawConfigFile()
	if err != nil {
		return none, fault(reference, err)
	}
	var config v1.ConfigFile
	if err := json.Unmarshal(raw, &config); err != nil {
		return none, sallyport.Errorf(sallyport.CodeInvalid, "the configuration of the image %.200q is malformed", reference)
	}
	if config.OS != "" && config.OS != "linux" || config.Architecture != "" && config.Architecture != runtime.GOARCH {
		return none, sallyport.Errorf(sallyport.CodeInvalid, "the image %.200q is for %.20s/%.20s, this host is linux/%s", reference, config.OS, config.Architecture, runtime.GOARCH)
	}
	if len(config.RootFS.DiffIDs) != len(manifest.Layers) {
		return none, sallyport.Errorf(sallyport.CodeInvalid, "the image %.200q has %d layers and names %d", reference, len(manifest.Layers), len(config.RootFS.DiffIDs))
	}
	out := sallyport.Image{
		Anonymous: anonymous,
		Reference: reference, Name: ref.Context().Name(), Digest: sallyport.Digest(digest.String()), Config: configOf(config.Config),
	}
	total := int64(0)
	for i, l := range manifest.Layers {
		if total += max(0, l.Size); total > maxImage {
			return none, sallyport.Errorf(sallyport.CodeInvalid, "the image %.200q has more than %d MiB", reference, maxImage>>20)
		}
		if l.Size < 0 || l.Size > maxLayer {
			return none, sallyport.Errorf(sallyport.CodeInvalid, "a layer of the image %.200q has more than %d MiB", reference, maxLayer>>20)
		}
		out.Layers = append(out.Layers, sallyport.ImageLayer{
			Digest: sallyport.Digest(l.Digest.String()), DiffID: sallyport.Digest(config.RootFS.DiffIDs[i].String()), Size: l.Size, MediaType: string(l.MediaType),
		})
	}
	return out, nil
}

// configOf takes what rooms make use of.
func configOf(c v1.Config) sallyport.ImageConfig {
	out := sallyport.ImageConfig{Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.WorkingDir, User: c.User}
	for _, pair := range c.Env[:min(len(c.Env), maxEnv)] {
		if key, value, ok := strings.Cut(pair, "="); ok && key != "" {
			out.Env = append(out.Env, sallyport.EnvVar{Name: key, Value: value})
		}
	}
	for port := range c.ExposedPorts {
		number, protocol, _ := strings.Cut(port, "/")
		if n, err := strconv.Atoi(number); err == nil && n > 0 && n < 1<<16 && len(out.Ports) < maxPorts && (protocol == "" || protocol == "tcp") {
			out.Ports = append(out.Ports, n)
		}
	}
	sort.Ints(out.Ports)
	return out
}

// Layer implements sallyport.Images. A layer is fetched once and kept.
func (r *Registry) Layer(ctx context.Context, i sallyport.Image, d sallyport.Digest) (io.ReadCloser, error) {
	if _, err := r.c.Blobs.Stat(ctx, scope, d); sallyport.ErrorCode(err) == sallyport.CodeNotFound {
		if err := r.fetch(ctx, i, d); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return r.c.Blobs.Get(ctx, scope, d)
}

func (r *Registry) fetch(ctx context.Context, i sallyport.Image, d sallyport.Digest) error {
	ref, err := name.NewDigest(i.Name + "@" + string(d))
	if err != nil {
		return sallyport.Errorf(sallyport.CodeInvalid, "%.200q is no layer of an image", d)
	}
	layer, err := remote.Layer(ref, r.options(ctx, i.Anonymous)...)
	if err != nil {
		return fault(i.Reference, err)
	}
	content, err := layer.Compressed()
	if err != nil {
		return fault(i.Reference, err)
	}
	defer content.Close()
	_, _, err = r.c.Blobs.Put(ctx, scope, content, d, maxLayer)
	var known *sallyport.Error
	if err != nil && !errors.As(err, &known) {
		return fault(i.Reference, err)
	}
	return err
}

// fault words an error of a registry.
func fault(reference string, err error) error {
	var t *transport.Error
	if !errors.As(err, &t) {
		return &sallyport.Error{Code: sallyport.CodeUnavailable, Message: fmt.Sprintf("the registry of the image %.200q cannot be reached", reference),
			Hint: "look whether the host reaches it; a mirror is named in the reference itself", Err: err}
	}
	switch t.StatusCode {
	case http.StatusNotFound:
		return &sallyport.Error{Code: sallyport.CodeNotFound, Message: fmt.Sprintf("there is no image %.200q", reference), Err: err}
	case http.StatusUnauthorized, http.StatusForbidden:
		return &sallyport.Error{Code: sallyport.CodeDenied, Message: fmt.Sprintf("the registry does not hand out the image %.200q", reference),
			Hint: "log the host in to the registry, as the user that Sallyport runs as", Err: err}
	}
	return &sallyport.Error{Code: sallyport.CodeUnavailable, Message: fmt.Sprintf("the registry answered %d for the image %.200q", t.StatusCode, reference), Err: err}
}
