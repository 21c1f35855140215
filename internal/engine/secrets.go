package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"

	"github.com/sallyport-ci/sallyport"
)

// Sealer is of sallyport.KMS what secrets need.
type Sealer interface {
	Seal(ctx context.Context, plain, aad []byte) ([]byte, error)
	Open(ctx context.Context, sealed, aad []byte) ([]byte, error)
}

// secrets implements sallyport.Secrets. Values go in; the one way out is a lease (lend.go).
type secrets struct{ e *Engine }

// maxSecrets of one project, all environments: GitHub allows 100 of each.
const maxSecrets = 1000

// secretName is what expressions can name. Capitals alone, since GitHub takes names in
// different cases for one.
var secretName = regexp.MustCompile(`^[A-Z_][A-Z0-9_]{0,127}$`)

func (s secrets) Secrets(ctx context.Context, p sallyport.ProjectID) ([]sallyport.SecretEntry, error) {
	if err := s.e.allow(ctx, actRead, p); err != nil {
		return nil, err
	}
	var out []sallyport.SecretEntry
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		if _, err := tx.Projects().Get(p); err != nil {
			return err
		}
		var err error
		out, err = tx.Secrets().List(p)
		return err
	})
	return out, err
}

func (s secrets) SetSecret(ctx context.Context, p sallyport.ProjectID, environment, name string, value sallyport.Secret) (sallyport.SecretEntry, error) {
	environment = strings.ToLower(environment) // as policies name it
	if err := s.e.allowIn(ctx, actSecrets, p, environment); err != nil {
		return sallyport.SecretEntry{}, err
	}
	if s.e.sealer == nil {
		return sallyport.SecretEntry{}, sallyport.Errorf(sallyport.CodeUnavailable, "this instance has no key to seal secrets with")
	}
	if err := checkSecret(environment, name, value); err != nil {
		return sallyport.SecretEntry{}, err
	}
	now := s.e.now()
	entry := sallyport.SecretEntry{
		Project: p, Environment: environment, Name: name, Version: sallyport.NewID[sallyport.SecretVersion](now), SetAt: now, SetBy: sallyport.PrincipalFrom(ctx).String(),
	}
	// Sealing may ask a service, so it stands before the transaction; nothing but the
	// database ever holds the result.
	sealed, err := s.e.sealer.Seal(ctx, value.Reveal(), secretAAD(entry))
	if err != nil {
		return sallyport.SecretEntry{}, fmt.Errorf("seal secret: %w", err)
	}
	err = s.e.update(ctx, func(c *change) error {
		if _, err := c.Projects().Get(p); err != nil {
			return err
		}
		if err := unstopped(c.Tx, sallyport.StopKey, sallyport.KeySecrets); err != nil {
			return err
		}
		all, err := c.Secrets().List(p)
		if err != nil {
			return err
		}
		if len(all) >= maxSecrets {
			return sallyport.Errorf(sallyport.CodeConflict, "a project has at most %d secrets", maxSecrets).WithHint("delete those that nothing uses")
		}
		if err := c.noRotation(p, environment, name); err != nil {
			return err
		}
		if err := c.Secrets().Put(entry, sealed); err != nil {
			return err
		}
		return c.record("secret.set", "project/"+string(p), secretDetail(entry))
	})
	return entry, err
}

func (s secrets) DeleteSecret(ctx context.Context, p sallyport.ProjectID, environment, name string) error {
	environment = strings.ToLower(environment)
	if err := s.e.allowIn(ctx, actSecrets, p, environment); err != nil {
		return err
	}
	return s.e.update(ctx, func(c *change) error {
		entry, _, err := c.Secrets().Sealed(p, environment, name)
		if err != nil {
			return err
		}
		if err := c.noRotation(p, environment, name); err != nil {
			return err
		}
		if err := c.Rotations().DeleteRule(p, environment, name); err != nil && sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			return err
		}
		if err := c.Secrets().Delete(p, environment, name); err != nil {
			return err
		}
		return c.record("secret.deleted", "project/"+string(p), secretDetail(entry))
	})
}

// secretDetail is what the trail says of a secret: no value, no digest of it.
func secretDetail(e sallyport.SecretEntry) map[string]any {
	d := map[string]any{"name": e.Name, "version": e.Version}
	if e.Environment != "" {
		d["environment"] = e.Environment
	}
	return d
}

// plainASCII keeps out letters that another one is folded to.
func plainASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// checkSecret says nothing of a value.
func checkSecret(environment, name string, value sallyport.Secret) error {
	switch text := string(value.Reveal()); {
	case !secretName.MatchString(name):
		return sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not the name of a secret", name).WithHint("capitals, digits and underscores, at most 128, such as DEPLOY_TOKEN")
	case strings.HasPrefix(name, "GITHUB_"):
		return sallyport.Errorf(sallyport.CodeInvalid, "names of secrets that begin with GITHUB_ are the platform's own").WithHint("use another name")
	case len(environment) > maxEnvironmentName || !plainASCII(environment):
		return sallyport.Errorf(sallyport.CodeInvalid, "%.80q is not the name of an environment", environment)
	case len(text) > sallyport.MaxSecret:
		return sallyport.Errorf(sallyport.CodeInvalid, "a secret has at most %d KiB", sallyport.MaxSecret>>10)
	case len(strings.TrimSpace(text)) < sallyport.MinSecret:
		return sallyport.Errorf(sallyport.CodeInvalid, "a secret has at least %d bytes", sallyport.MinSecret).
			WithHint("a shorter one can be guessed, and cannot be kept out of logs; give it as a variable if it is none")
	}
	return nil
}

// secretAAD binds a sealed value to its place: moved to another project, environment,
// name or version in the database, it does not open.
func secretAAD(e sallyport.SecretEntry) []byte {
	aad := []byte("sallyport secret v1")
	for _, part := range []string{string(e.Project), e.Environment, e.Name, string(e.Version)} {
		aad = append(binary.BigEndian.AppendUint32(aad, uint32(len(part))), part...)
	}
	return aad
}
