package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

const (
	minRotation  = time.Hour
	maxOverlap   = 35 * 24 * time.Hour // no job is longer
	maxRuleBytes = 64 << 10
)

func (s secrets) Rotations(ctx context.Context, p sallyport.ProjectID) ([]sallyport.RotationStatus, error) {
	if err := s.e.allow(ctx, actRead, p); err != nil {
		return nil, err
	}
	var out []sallyport.RotationStatus
	err := s.e.view(ctx, func(tx sallyport.Tx) error {
		out = nil
		if _, err := tx.Projects().Get(p); err != nil {
			return err
		}
		rules, err := tx.Rotations().Rules(p)
		if err != nil {
			return err
		}
		for _, rule := range rules {
			st := sallyport.RotationStatus{Rule: rule}
			last, _, _, err := tx.Rotations().Last(p, rule.Environment, rule.Name)
			switch {
			case err == nil:
				st.Last = &last
				if last.State.Promoted() {
					if st.Holders, err = tx.Secrets().Lent(last.Old, false); err != nil {
						return err
					}
				}
			case sallyport.ErrorCode(err) != sallyport.CodeNotFound:
				return err
			}
			out = append(out, st)
		}
		return nil
	})
	return out, err
}

// SetRotation takes an administrator of the installation: by it the control plane calls a
// target of the rule's choice.
func (s secrets) SetRotation(ctx context.Context, p sallyport.ProjectID, environment, name string, r sallyport.RotationRule, admin sallyport.Secret) (sallyport.RotationRule, error) {
	if err := s.e.allow(ctx, actAdmin, ""); err != nil {
		return r, err
	}
	r.Project, r.Environment, r.Name = p, strings.ToLower(environment), name
	now := s.e.now()
	r.SetAt, r.SetBy, r.Due, r.Leaked = now, sallyport.PrincipalFrom(ctx).String(), time.Time{}, false
	var sealed []byte
	if r.Rotator != "" {
		if err := s.checkRule(r, admin); err != nil {
			return r, err
		}
		if r.Every > 0 {
			r.Due = now.Add(r.Every)
		}
		if !admin.Empty() {
			var err error
			if sealed, err = s.e.sealer.Seal(ctx, admin.Reveal(), adminAAD(r)); err != nil {
				return r, fmt.Errorf("seal the credential of a rotation: %w", err)
			}
		}
	}
	err := s.e.update(ctx, func(c *change) error {
		if _, _, err := c.Secrets().Sealed(p, r.Environment, name); err != nil {
			return err
		}
		if err := c.noRotation(p, r.Environment, name); err != nil {
			return err
		}
		detail := map[string]any{"name": name, "environment": r.Environment, "rotator": r.Rotator}
		if r.Rotator == "" {
			if err := c.Rotations().DeleteRule(p, r.Environment, name); err != nil {
				return err
			}
			return c.record("rotation.unset", "project/"+string(p), detail)
		}
		if err := c.Rotations().PutRule(r, sealed); err != nil {
			return err
		}
		if at := opens(r, c.now); !at.IsZero() {
			if err := c.enqueueRotate(p, r.Environment, name, at); err != nil {
				return err
			}
		}
		detail["every_s"], detail["config"] = int64(r.Every/time.Second), sallyport.DigestOf(r.Config)
		return c.record("rotation.set", "project/"+string(p), detail)
	})
	return r, err
}

func (s secrets) checkRule(r sallyport.RotationRule, admin sallyport.Secret) error {
	rotator := s.e.rotators[r.Rotator]
	switch {
	case s.e.sealer == nil:
		return sallyport.Errorf(sallyport.CodeUnavailable, "this instance has no key to seal secrets with")
	case rotator == nil:
		return sallyport.Errorf(sallyport.CodeInvalid, "there is no rotator %.40q", r.Rotator).WithHint("there are postgres and http")
	case len(r.Config) > maxRuleBytes:
		return sallyport.Errorf(sallyport.CodeInvalid, "the configuration of a rotation has at most %d KiB", maxRuleBytes>>10)
	case r.Every != 0 && r.Every < minRotation:
		return sallyport.Errorf(sallyport.CodeInvalid, "a secret is rotated every hour at most").WithHint("every: 720h is once in thirty days")
	case r.Overlap < 0 || r.Overlap > maxOverlap:
		return sallyport.Errorf(sallyport.CodeInvalid, "the overlap is between 0 and %d days", int(maxOverlap/(24*time.Hour)))
	case r.From < 0 || r.From > 23 || r.To < 0 || r.To > 23:
		return sallyport.Errorf(sallyport.CodeInvalid, "from and to are hours from 0 to 23, UTC")
	case len(admin.Reveal()) > sallyport.MaxSecret:
		return sallyport.Errorf(sallyport.CodeInvalid, "a secret has at most %d KiB", sallyport.MaxSecret>>10)
	case !admin.Empty() && len(strings.TrimSpace(string(admin.Reveal()))) < sallyport.MinSecret:
		return sallyport.Errorf(sallyport.CodeInvalid, "a secret has at least %d bytes", sallyport.MinSecret)
	}
	return rotator.Check(r.Config)
}

func (s secrets) Rotate(ctx context.Context, p sallyport.ProjectID, environment, name string) (sallyport.Rotation, error) {
	environment = strings.ToLower(environment)
	if err := s.e.allowIn(ctx, actSecrets, p, environment); err != nil {
		return sallyport.Rotation{}, err
	}
	var r sallyport.Rotation
	err := s.e.update(ctx, func(c *change) error {
		rule, admin, err := c.Rotations().Rule(p, environment, name)
		if sallyport.ErrorCode(err) == sallyport.CodeNotFound {
			return sallyport.Errorf(sallyport.CodeNotFound, "nothing says how %.80q is rotated", name).WithHint("say so with: sallyport secrets rotation %s --file RULE.yaml", clip(name, 80))
		}
		if err != nil {
			return err
		}
		var staged []byte
		r, _, staged, err = c.Rotations().Last(p, environment, name)
		switch {
		case err == nil && !r.State.Ended():
			r.NextAt = time.Time{}
			if err := c.Rotations().Save(&r, staged); err != nil {
				return err
			}
			if err := c.record("rotation.asked", "project/"+string(p), rotationDetail(r)); err != nil {
				return err
			}
		case err == nil || sallyport.ErrorCode(err) == sallyport.CodeNotFound:
			if r, err = c.beginRotation(rule, admin, "asked"); err != nil {
				return err
			}
		default:
			return err
		}
		return c.enqueueRotate(p, environment, name, c.now)
	})
	return r, err
}

// noRotation refuses what would take a secret from under a rotation.
func (c *change) noRotation(p sallyport.ProjectID, environment, name string) error {
	r, _, _, err := c.Rotations().Last(p, environment, name)
	if sallyport.ErrorCode(err) == sallyport.CodeNotFound || err == nil && r.State.Ended() {
		return nil
	}
	if err != nil {
		return err
	}
	return sallyport.Errorf(sallyport.CodeConflict, "%s is being rotated: it is %s", name, r.State).WithHint("see sallyport secrets rotation; it ends by itself, or says what it waits for")
}
