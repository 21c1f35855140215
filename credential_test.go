package sallyport_test

import (
	"regexp"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

func TestCredentials(t *testing.T) {
	t.Parallel()
	scanner := regexp.MustCompile(`\bsp_[a-z2-7]{59}\b`)
	seen := map[string]bool{}
	for range 100 {
		v := sallyport.NewCredential("sp_")
		if seen[v] {
			t.Fatalf("%s was made twice", v)
		}
		seen[v] = true
		if scanner.FindString("token="+v+"\n") != v {
			t.Errorf("a scanner does not find %s", v)
		}
		if !sallyport.ValidCredential("sp_", v) || sallyport.ValidCredential("sll_", v) {
			t.Errorf("%s is not told from others", v)
		}
		for i := range len(v) { // one character changed
			c := byte('a')
			if v[i] == c {
				c = 'b'
			}
			if changed := v[:i] + string(c) + v[i+1:]; sallyport.ValidCredential("sp_", changed) {
				t.Errorf("%s passes for one", changed)
			}
		}
	}
	for _, bad := range []string{"", "sp_", "sp_abc", sallyport.NewCredential("sp_") + "a", sallyport.NewCredential("sp_")[:61]} {
		if sallyport.ValidCredential("sp_", bad) {
			t.Errorf("%q passes for one", bad)
		}
	}
}
