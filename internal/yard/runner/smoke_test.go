package runner

import (
	"testing"

	sallyport "github.com/sallyport-ci/sallyport"
)

func TestSmoke(t *testing.T) {
	t.Parallel()
	e := trial{yaml: steps(`
- run: echo hello
- id: x
  run: echo "v=1" >> $GITHUB_OUTPUT
- run: echo "got ${{ steps.x.outputs.v }}"
`)}.try(t)
	if e.Conclusion != sallyport.Success {
		t.Errorf("conclusion %s: %s", e.Conclusion, e.Cause)
	}
	t.Log(e.all())
}
