package engine

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// hand hands in a job that made the artifact "app", with a trace.
func (s *site) hand(tree string, changes ...sallyport.SourceChange) (sallyport.Push, sallyport.JobID) {
	s.t.Helper()
	s.pass(time.Second)
	push := s.push("main", files{workflowFile: deployWorkflow, ".sallyport/deploy.yaml": s.deploys, "content": tree + changeNames(changes)})
	l := s.lease()
	if l == nil {
		s.t.Fatal("there is no job to lease")
	}
	_, err := s.y.PutArtifact(s.runner, l.Ref, "app", bytes.NewReader(tarOf(s.t, tarFile{"app", push.Commit, 0o755})))
	check(s.t, err)
	commit, err := s.e.repos.Commit(s.t.Context(), s.p.ID, push.Commit)
	check(s.t, err)
	if tree == "" {
		tree = commit.Tree
	}
	check(s.t, s.y.Record(s.runner, l.Ref, 1, sallyport.DoorRecord{Flows: []sallyport.Flow{{Protocol: "tls", Host: "example.com", Port: 443, Decision: sallyport.EgressDenied, Reason: "host-not-allowed", Count: 2}}}))
	trace := &sallyport.Trace{
		Starts: 3, Methods: []string{"seccomp"}, Changes: changes,
		Programs: []sallyport.Program{{Path: "/usr/bin/make", Digest: sallyport.DigestOf(nil), Starts: 3, Steps: []int{1}}, {Path: strings.Repeat("x", 1<<20), Digest: "none"}},
		Source:   &sallyport.SourceState{Commit: push.Commit, Tree: tree, Files: 3},
	}
	check(s.t, s.y.Finish(s.runner, l.Ref, sallyport.JobResult{Conclusion: sallyport.Success, Isolation: &sallyport.Isolation{Level: "standard"}, Trace: trace}))
	s.work()
	return push, l.Job.ID
}

func changeNames(list []sallyport.SourceChange) (out string) {
	for _, c := range list {
		out += c.Path
	}
	return out
}

// verdict is the last one.
func (s *site) verdict() sallyport.Verdict {
	s.t.Helper()
	list, err := s.s.Gates.Verdicts(s.admin, s.p.ID, sallyport.Page{})
	check(s.t, err)
	if len(list) == 0 {
		s.t.Fatal("no verdict")
	}
	v, err := s.s.Gates.Verdict(s.admin, list[0].ID)
	check(s.t, err)
	return v
}

// TestTrace follows what a runner saw of a job: kept, bounded, signed, and weighed by the gate.
func TestTrace(t *testing.T) {
	s := newSite(t)
	s.deploys = strings.Replace(deployFile, "    port: 8080\n", "    port: 8080\n    source: unchanged\n", 1)

	push, job := s.hand("")
	if v := s.verdict(); v.Decision != sallyport.Allow {
		t.Errorf("the source is what it claims to be, and was not changed: %s %q", v.Decision, v.Reasons)
	}
	got, err := s.s.Runs.Trace(s.admin, job)
	check(t, err)
	if len(got.Programs) != 2 || len(got.Programs[1].Path) > 4100 || got.Programs[1].Digest != "" || got.Source.Commit != push.Commit {
		t.Errorf("kept: %d programs, the second of %d bytes and digest %q, source %+v", len(got.Programs), len(got.Programs[1].Path), got.Programs[1].Digest, got.Source)
	}
	run, err := s.s.Runs.Runs(s.admin, sallyport.RunFilter{Push: push.ID})
	check(t, err)
	a, err := s.s.Artifacts.FindArtifact(s.admin, run[0].ID, "app")
	check(t, err)
	checked, err := s.s.Artifacts.Verify(s.admin, s.p.ID, a.Digest)
	check(t, err)
	found := false
	for _, c := range checked {
		if c.PredicateType != sallyport.PredicateTrace {
			continue
		}
		found = true
		var p struct {
			Source struct {
				Matches bool `json:"matchesCommit"`
			} `json:"sallyportSource"`
			Process struct {
				Event string `json:"event"`
			} `json:"monitoredProcess"`
			Log struct {
				Process []struct {
					Binary string `json:"processBinary"`
				} `json:"process"`
				Network []struct {
					Hostname string `json:"hostname"`
					Decision string `json:"decision"`
				} `json:"network"`
			} `json:"monitorLog"`
		}
		check(t, json.Unmarshal(c.Predicate, &p))
		if !p.Source.Matches || !strings.HasSuffix(p.Process.Event, string(job)) || p.Log.Process[0].Binary != "/usr/bin/make" ||
			len(p.Log.Network) != 1 || p.Log.Network[0].Hostname != "example.com" || p.Log.Network[0].Decision != "denied" {
			t.Errorf("signed: %s", c.Predicate)
		}
	}
	if !found {
		t.Error("no runtime trace is signed")
	}

	s.hand("", sallyport.SourceChange{Path: "main.go", How: "modified", Step: 1, Artifact: "app"})
	if v := s.verdict(); v.Decision != sallyport.Deny || !strings.Contains(strings.Join(v.Reasons, "\n"), "edited 1 tracked files") {
		t.Errorf("the build edited its source: %s %q", v.Decision, v.Reasons)
	}
	s.hand(strings.Repeat("0", 40))
	if v := s.verdict(); v.Decision != sallyport.Deny || !strings.Contains(strings.Join(v.Reasons, "\n"), "is not the tree of commit") {
		t.Errorf("another tree was built: %s %q", v.Decision, v.Reasons)
	}
}

// TestTraceOfAnotherJob has a job edit its source and hand what it made to one that does not.
func TestTraceOfAnotherJob(t *testing.T) {
	s := newSite(t)
	s.deploys = strings.Replace(deployFile, "    port: 8080\n", "    port: 8080\n    source: unchanged\n", 1)
	const two = `on: push
jobs:
  compile:
    runs-on: ubuntu-latest
    steps: [{run: make}]
  wrap:
    needs: compile
    runs-on: ubuntu-latest
    steps: [{run: wrap}]
`
	through := func(content string, said *sallyport.Trace, remove bool) sallyport.Verdict {
		s.pass(time.Second)
		push := s.push("main", files{workflowFile: two, ".sallyport/deploy.yaml": s.deploys, "content": content})
		commit, err := s.e.repos.Commit(t.Context(), s.p.ID, push.Commit)
		check(t, err)
		for _, name := range []string{"objects", "app"} {
			l := s.lease()
			if l == nil {
				t.Fatal("there is no job to lease")
			}
			_, err := s.y.PutArtifact(s.runner, l.Ref, name, bytes.NewReader(tarOf(t, tarFile{name, name + push.Commit, 0o755})))
			check(t, err)
			if name == "app" && remove { // it has what it needs, and hides where it is from
				_, err := s.y.DeleteArtifact(s.runner, l.Ref, "objects")
				check(t, err)
			}
			trace := said
			if name == "app" || said != nil {
				trace = &sallyport.Trace{Methods: []string{"stat"}, Source: &sallyport.SourceState{Commit: push.Commit, Tree: commit.Tree, Files: 3}}
			}
			if name == "objects" && said != nil {
				trace.Changes = said.Changes
			}
			check(t, s.y.Finish(s.runner, l.Ref, sallyport.JobResult{Conclusion: sallyport.Success, Isolation: &sallyport.Isolation{Level: "standard"}, Trace: trace}))
			s.work()
		}
		return s.verdict()
	}
	edited := &sallyport.Trace{Changes: []sallyport.SourceChange{{Path: "main.go", How: "modified", Artifact: "objects"}}}
	later := &sallyport.Trace{Changes: []sallyport.SourceChange{{Path: "main.go", How: "modified"}}}
	for name, c := range map[string]struct {
		said   *sallyport.Trace
		remove bool   // what the first job made, before the second ends
		want   string // of the denial; "": none
	}{
		"clean":                    {&sallyport.Trace{}, false, ""},
		"clean and removed":        {&sallyport.Trace{}, true, ""},
		"edited":                   {edited, false, "job compile edited 1 tracked files"},
		"edited and removed":       {edited, true, "job compile edited 1 tracked files"},
		"edited later":             {later, false, ""},
		"edited later and removed": {later, true, ""},
		"not seen":                 {nil, false, "nothing shows that job compile did not edit"},
	} {
		v := through(name, c.said, c.remove)
		if text := strings.Join(v.Reasons, "\n"); (v.Decision == sallyport.Allow) != (c.want == "") || !strings.Contains(text, c.want) {
			t.Errorf("%s: %s %q", name, v.Decision, v.Reasons)
		}
	}
}
