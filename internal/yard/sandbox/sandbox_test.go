package sandbox

import (
	"testing"

	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	s := open(t, Config{})
	sallyporttest.Sandbox(t, func(t *testing.T) sallyporttest.SandboxCase {
		return sallyporttest.SandboxCase{Sandbox: s, Dir: t.TempDir()}
	})
}
