package engine

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

const readingFlow = "on: [push, pull_request, pull_request_target, issue_comment]\npermissions: {actions: read}\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{run: make}]\n"

// TestArtifactsOfOtherRuns has runs of every trust take what runs of every trust made.
func TestArtifactsOfOtherRuns(t *testing.T) {
	t.Parallel()
	h := newCaching(t)
	h.commit = h.push("main", files{workflowFile: readingFlow}).Commit
	h.finish(h.house.lease(), sallyport.Success, nil)
	made := map[string]sallyport.RunID{}
	origins := map[string]cacheRun{"release": approved, "main": release, "branch": branch, "own pull request": ownPull, "fork": fork, "stranger": stranger}
	for name, o := range origins {
		l := h.lend(o)
		_, err := h.y.PutArtifact(h.runner, l.Ref, "app", bytes.NewReader(tarOf(t, tarFile{"app", name, 0o755})))
		check(t, err)
		h.finish(l, sallyport.Success, nil)
		made[name] = l.Run.ID
	}
	for name, o := range origins {
		l := h.lend(o)
		for from, by := range origins {
			want := by.tier.Covers(o.tier)
			a, content, err := h.y.GetArtifact(h.runner, l.Ref, made[from], "app")
			if err == nil {
				content.Close()
			}
			list, lerr := h.y.Artifacts(h.runner, l.Ref, made[from])
			switch {
			case want && (err != nil || lerr != nil || a.Run != made[from] || len(list) != 1):
				t.Errorf("%s from %s: %v, %v", name, from, err, lerr)
			case !want && (sallyport.ErrorCode(err) != sallyport.CodeDenied || sallyport.ErrorCode(lerr) != sallyport.CodeDenied):
				t.Errorf("%s got what %s made: %v, %v", name, from, err, lerr)
			}
		}
		h.finish(l, sallyport.Success, nil)
	}
}

func TestArtifactsOfOtherRunsRefused(t *testing.T) {
	t.Parallel()
	h := newCaching(t)
	l := h.lend(release)
	_, err := h.y.PutArtifact(h.runner, l.Ref, "app", bytes.NewReader(tarOf(t, tarFile{"app", "x", 0o755})))
	check(t, err)
	h.finish(l, sallyport.Success, nil)

	narrow := h.lend(release) // its workflow has no permissions
	if _, _, err := h.y.GetArtifact(h.runner, narrow.Ref, l.Run.ID, "app"); sallyport.ErrorCode(err) != sallyport.CodeDenied || !strings.Contains(err.Error(), "lacks actions: read") {
		t.Errorf("without the permission: %v", err)
	}
	h.finish(narrow, sallyport.Success, nil)

	h.commit = h.push("main", files{workflowFile: readingFlow}).Commit
	wide := h.house.lease()
	for run, name := range map[sallyport.RunID]string{sallyport.NewID[sallyport.RunID](h.clock()): "app", "..": "app", "999": "app", "-1": "app", l.Run.ID: "none", sallyport.RunID(runNumber(l.Run)): "none"} {
		if _, _, err := h.y.GetArtifact(h.runner, wide.Ref, run, name); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
			t.Errorf("run %s, %s: %v", run, name, err)
		}
	}
	other, err := h.s.Projects.CreateProject(h.admin, "other", "main")
	check(t, err)
	own := h.p
	h.p = other
	h.push("main", files{workflowFile: readingFlow})
	foreign := h.house.lease()
	h.p = own
	if _, _, err := h.y.GetArtifact(h.runner, foreign.Ref, l.Run.ID, "app"); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("of another project: %v", err)
	}

	// What was taken is in the provenance. Jobs know a run by its number.
	if list, err := h.y.Artifacts(h.runner, wide.Ref, sallyport.RunID(runNumber(l.Run))); err != nil || len(list) != 1 {
		t.Errorf("listed %v, %v", list, err)
	}
	_, content, err := h.y.GetArtifact(h.runner, wide.Ref, sallyport.RunID(runNumber(l.Run)), "app")
	check(t, err)
	content.Close()
	_, err = h.y.PutArtifact(h.runner, wide.Ref, "next", bytes.NewReader(tarOf(t, tarFile{"next", "y", 0o755})))
	check(t, err)
	h.finish(wide, sallyport.Success, nil)
	statements, err := h.s.Artifacts.Statements(h.admin, h.p.ID, sallyport.DigestOf([]byte("y")))
	check(t, err)
	if len(statements) != 1 {
		t.Fatalf("got %d statements", len(statements))
	}
	bundle, err := h.s.Artifacts.Bundle(h.admin, statements[0].ID)
	check(t, err)
	var b openBundle
	check(t, json.Unmarshal(bundle, &b))
	for _, want := range []string{`"name":"artifact"`, sallyport.DigestOf([]byte("x")).Hex(), `"tier":"protected"`, string(l.Run.ID)} {
		if !strings.Contains(string(b.Statement), want) {
			t.Errorf("the provenance lacks %s: %s", want, b.Statement)
		}
	}
}

// TestDeleteArtifact overwrites an artifact of the run; those of others are out of reach.
func TestDeleteArtifact(t *testing.T) {
	t.Parallel()
	h := newCaching(t)
	l := h.lend(release)
	put := func(content string) (sallyport.Artifact, error) {
		return h.y.PutArtifact(h.runner, l.Ref, "app", bytes.NewReader(tarOf(t, tarFile{"app", content, 0o755})))
	}
	first, err := put("1")
	check(t, err)
	gone, err := h.y.DeleteArtifact(h.runner, l.Ref, "app")
	if err != nil || gone.ID != first.ID {
		t.Errorf("got %+v, %v", gone, err)
	}
	if _, err := h.y.DeleteArtifact(h.runner, l.Ref, "app"); sallyport.ErrorCode(err) != sallyport.CodeNotFound {
		t.Errorf("again: %v", err)
	}
	second, err := put("2")
	if err != nil || second.ID == first.ID || second.Digest != sallyport.DigestOf([]byte("2")) {
		t.Errorf("got %+v, %v", second, err)
	}
	h.finish(l, sallyport.Success, nil)
	if _, err := h.y.DeleteArtifact(h.runner, l.Ref, "app"); sallyport.ErrorCode(err) != sallyport.CodeConflict {
		t.Errorf("after the job: %v", err)
	}
	if got := h.actions("artifact.deleted"); got["artifact.deleted"] != 1 {
		t.Errorf("recorded %v", got)
	}
}
