package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// cachingWorkflow builds with what it restores and has a cache for the next run.
const cachingWorkflow = `name: ci
on:
  push: {branches: [main]}
  pull_request:
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - id: c
        uses: actions/cache@v4
        with: {path: ~/.store, key: store-1, restore-keys: store-}
      - run: |
          echo "hit=[${{ steps.c.outputs.cache-hit }}] content=[$(cat ~/.store/lib)]"
          mkdir -p ~/.store; [ -e ~/.store/lib ] || cp lib ~/.store/lib
          cp ~/.store/lib app
      - uses: actions/upload-artifact@v4
        with: {name: app, path: app}
`

// TestCachePoisoning plays the attack by which a pull request of a fork fed a
// release, through the front door: what the fork saved under the release's key stays its own.
// The release then restores what a run of the protected branch saved under the same key.
func TestCachePoisoning(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.project("store")

	// The fork: a commit that no branch of ours stands at.
	poison := r.commit("Poison", files{".github/workflows/ci.yml": cachingWorkflow, "lib": "poison\n"})
	r.git("push", "-q", s.url+"/store.git", "HEAD:refs/heads/evil")
	r.git("push", "-q", s.url+"/store.git", ":refs/heads/evil")
	payload := filepath.Join(t.TempDir(), "event.json")
	event := fmt.Sprintf(`{"action":"opened","number":7,"pull_request":{"number":7,"head":{"ref":"x","sha":%q},"base":{"ref":"main"}}}`, poison)
	if err := os.WriteFile(payload, []byte(event), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ok("event", "pull_request", "--project", "store", "--payload", payload)
	fork := r.runs(poison, 1)[0]
	if fork.run.Tier != sallyport.TierUntrusted || fork.run.Conclusion != sallyport.Success {
		t.Fatalf("tier %s: %s", fork.run.Tier, fork.explain())
	}
	saw := func(o outcome, want string) {
		t.Helper()
		if text := s.ok("logs", string(o.run.ID)); o.run.Conclusion != sallyport.Success || !strings.Contains(text, want) {
			t.Errorf("%s: want %q in\n%s", o.explain(), want, text)
		}
	}
	saw(fork, "hit=[] content=[]")

	first := r.ran("Good", files{"lib": "good\n"})
	saw(first, "hit=[] content=[]") // and not the poison
	second := r.ran("Again", files{"more": "x\n"})
	saw(second, "hit=[true] content=[good]")

	var list []sallyport.CacheEntry
	s.json(&list, "caches", "list", "store")
	var kept []string
	for _, c := range list {
		kept = append(kept, fmt.Sprint(c.Key, " ", c.Ref, " ", c.Tier))
	}
	if want := []string{"store-1 refs/heads/main protected", "store-1 refs/pull/7/merge untrusted"}; !slices.Equal(kept, want) {
		t.Errorf("kept %q, want %q", kept, want)
	}
	if text := s.ok("caches", "list", "store"); !strings.Contains(text, "refs/pull/7/merge") {
		t.Errorf("caches list: got\n%s", text)
	}
	var uses []sallyport.CacheUse
	s.json(&uses, "caches", "uses", string(second.run.ID))
	if len(uses) != 1 || uses[0].Outcome != sallyport.CacheRestored || uses[0].Entry.Digest != list[0].Digest || uses[0].Entry.Tier != sallyport.TierProtected {
		t.Errorf("caches uses: got %+v", uses)
	}
	provenanceNames(t, s, second, "https://sallyport.localhost/caches/"+string(list[0].ID))

	if got := s.run("caches", "delete", "store"); got.code != exitUsage {
		t.Errorf("caches delete without a key: %+v", got)
	}
	if got := s.run("caches", "delete", "store", "nothing"); got.code != exitFailed || !strings.Contains(got.stderr, "has no cache") {
		t.Errorf("caches delete of nothing: %+v", got)
	}
	var gone []sallyport.CacheEntry
	s.json(&gone, "caches", "delete", "store", "store-1", "--ref", "refs/pull/7/merge")
	if len(gone) != 1 || gone[0].Tier != sallyport.TierUntrusted {
		t.Errorf("caches delete: got %+v", gone)
	}
	if text := s.ok("caches", "delete", "store", "--all"); !strings.Contains(text, "deleted store-1 of refs/heads/main, tier protected") {
		t.Errorf("caches delete --all: got\n%s", text)
	}
	saw(r.ran("Once more", files{"more": "y\n"}), "hit=[] content=[]")

	// The control: what a run that is trusted as much saves does reach the next one.
	s.ok("caches", "delete", "store", "--all")
	saw(r.ran("Theirs", files{"lib": "poison\n"}), "hit=[] content=[]")
	saw(r.ran("Good again", files{"lib": "good\n"}), "hit=[true] content=[poison]")
	s.ok("audit", "verify")
}

// provenanceNames wants the signed provenance of a run's artifact to name the cache
// entry, with the tier of the run that saved it.
func provenanceNames(t *testing.T, s *server, o outcome, uri string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	services := s.services()
	a, err := services.Artifacts.FindArtifact(ctx, o.run.ID, "app")
	if err != nil {
		t.Fatal(err)
	}
	checked, err := services.Artifacts.Verify(ctx, a.Project, a.Digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checked {
		var p struct {
			BuildDefinition struct {
				ResolvedDependencies []struct {
					URI         string
					Annotations map[string]string
				}
			}
		}
		if err := json.Unmarshal(c.Predicate, &p); err != nil {
			t.Fatal(err)
		}
		for _, d := range p.BuildDefinition.ResolvedDependencies {
			if d.URI == uri && d.Annotations["tier"] == "protected" {
				return
			}
		}
	}
	t.Errorf("no provenance of %s names %s", a.Digest, uri)
}
