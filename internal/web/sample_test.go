package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// The sample is what a small team's installation looks like on a Friday afternoon.

var sampleNow = time.Date(2026, 11, 20, 14, 32, 10, 0, time.UTC)

const (
	sampleIssuer   = "https://ci.example.org"
	sampleIdentity = "https://ci.example.org/shop/.github/workflows/ci.yml@refs/heads/main"

	commitLive = "7c1e4b9a2f60d3358e1b0a9d4c7f2e6b58a10c93"
	commitBad  = "e02b7f1d9c4a86530f1e2d3c4b5a69788796a5b4"
	commitNow  = "b41f9e07d6c5a4832f1e0d9c8b7a69584736251f"
)

const (
	runNow     sallyport.RunID = "019a9f10-4e00-7000-8000-000000000128"
	runFailed  sallyport.RunID = "019a9f10-4e00-7000-8000-000000000127"
	runPassed  sallyport.RunID = "019a9f10-4e00-7000-8000-000000000126"
	runHostile sallyport.RunID = "019a9f10-4e00-7000-8000-000000000125"

	jobBig     sallyport.JobID = "019a9f10-4e00-7000-8000-00000000f001"
	jobFailed  sallyport.JobID = "019a9f10-4e00-7000-8000-00000000f002"
	jobHostile sallyport.JobID = "019a9f10-4e00-7000-8000-00000000f003"
	jobLive    sallyport.JobID = "019a9f10-4e00-7000-8000-00000000f004"
	jobPassed  sallyport.JobID = "019a9f10-4e00-7000-8000-00000000f005"
)

// hostile is text that a commit, a title, an annotation or a log may hold.
const hostile = `<script>alert("title")</script><img src=x onerror=alert(1)> "quotes' & {{.}}`

const bigLines = 200_000

func ago(d time.Duration) time.Time { return sampleNow.Add(-d) }

func id[T ~string](kind string, n int) T {
	return T(fmt.Sprintf("019a9f10-4e00-7000-8000-%s%08d", kind, n))
}

func newFake() *fake {
	f := &fake{
		changed: make(chan struct{}),
		jobs:    map[sallyport.RunID][]sallyport.Job{},
		logs:    map[sallyport.JobID]*fakeLog{},
		content: map[sallyport.ArtifactID]string{},
		health:  map[sallyport.DeploymentID]sallyport.Health{},
		traffic: map[sallyport.DeploymentID]sallyport.Traffic{},
	}
	f.projects = []sallyport.Project{
		{ID: "p-shop", Name: "shop", DefaultBranch: "main", CreatedAt: ago(90 * 24 * time.Hour)},
		{ID: "p-billing", Name: "billing", DefaultBranch: "main", CreatedAt: ago(40 * 24 * time.Hour)},
		{ID: "p-docs", Name: "handbook", DefaultBranch: "trunk", CreatedAt: ago(3 * 24 * time.Hour)},
	}
	sampleRuns(f)
	sampleJobs(f)
	sampleLogs(f)
	sampleEvidence(f)
	sampleDeployments(f)
	sampleOperations(f)
	sampleCaches(f)
	sampleTrace(f)
	sampleDoors(f)
	f.secrets = []sallyport.SecretEntry{
		{Project: "p-shop", Name: "DATABASE_PASSWORD", Environment: "prod", SetAt: ago(26 * time.Hour), SetBy: "person:anna"},
		{Project: "p-shop", Name: "REGISTRY_TOKEN", SetAt: ago(9 * 24 * time.Hour), SetBy: "person:" + hostile},
	}
	f.rotations = []sallyport.RotationStatus{{
		Rule:    sallyport.RotationRule{Project: "p-shop", Environment: "prod", Name: "DATABASE_PASSWORD", Rotator: "postgres", Every: 720 * time.Hour, Due: ago(-300 * time.Hour)},
		Last:    &sallyport.Rotation{ID: "r1", Project: "p-shop", Environment: "prod", Name: "DATABASE_PASSWORD", State: sallyport.RotationPromoted, StartedAt: ago(time.Hour), LastError: hostile},
		Holders: []sallyport.SecretLease{{Project: "p-shop", Name: "DATABASE_PASSWORD", Job: "j1", At: ago(2 * time.Hour)}},
	}}
	return f
}

func sampleTrace(f *fake) {
	digest := func(s string) sallyport.Digest { return sallyport.DigestOf([]byte(s)) }
	f.trace = sallyport.Trace{
		Starts: 431, Lost: 3, Methods: []string{"seccomp", "stat"},
		Programs: []sallyport.Program{
			{Path: "/usr/bin/bash", Digest: digest("bash"), Starts: 12, Steps: []int{1, 2, 3}},
			{Path: "/usr/local/go/pkg/tool/linux_amd64/compile", Digest: digest("compile"), Starts: 410, Steps: []int{2}},
			{Path: "/tmp/" + hostile, Starts: 9, Steps: []int{0, 2}},
		},
		Source: &sallyport.SourceState{Commit: "4f2a9c1e7b3d5a6f8091a2b3c4d5e6f708192a3b", Tree: "1", Files: 214, Checked: ago(time.Minute)},
		Changes: []sallyport.SourceChange{
			{Path: "internal/" + hostile, How: "modified", Step: 2, Artifact: "shop"},
			{Path: "version.go", How: "restored"},
		},
		NotSeen: []sallyport.Gap{{What: "restored-files", Why: "the workspace is not a file system of its own"}},
	}
	for run, jobs := range f.jobs {
		for i := range jobs {
			if jobs[i].Status == sallyport.StatusCompleted && run == runPassed {
				jobs[i].Trace = digest("trace")
			}
		}
	}
}

func sampleDoors(f *fake) {
	digest := sallyport.DigestOf([]byte("package"))
	commit := commitLive
	f.doors = map[sallyport.RunID][]sallyport.Door{
		runFailed: {{Job: jobFailed, Name: "test", Key: "test", Attempt: 1,
			Rules: sallyport.EgressRules{Level: sallyport.EgressRegistries, Commit: commit, File: sallyport.PlanFile{Path: ".sallyport/egress.yaml"}},
			Record: sallyport.DoorRecord{
				Flows: []sallyport.Flow{
					{Step: 2, Protocol: "tls", Host: "api.example.com", Port: 443, Decision: sallyport.EgressAllowed, Rule: ".sallyport/egress.yaml:4", Count: 3, Sent: 2100, Received: 51200},
					{Step: 3, Protocol: "dns", Host: "collector.evil.example", Decision: sallyport.EgressDenied, Reason: "host-not-allowed", Count: 14},
					{Step: 3, Protocol: "tcp", Address: "169.254.169.254", Port: 80, Decision: sallyport.EgressDenied, Reason: "address-without-name", Count: 2},
					{Protocol: "tls", Host: hostile, Port: 443, Decision: sallyport.EgressDenied, Reason: hostile, Count: 1},
				},
				Packages: []sallyport.PackageFetch{
					{Step: 2, PURL: "pkg:npm/left-pad@1.3.0", Digest: digest, Size: 3600, Decision: sallyport.EgressAllowed},
					{Step: 3, PURL: "pkg:npm/lodahs@4.17.21", Decision: sallyport.EgressDenied, Reason: "its name is that of lodash but for two letters"},
				},
				Uses: []sallyport.CredentialUse{{Step: 3, Credential: "upload", Host: "packages.example.com", Method: "PUT", Status: 201, Scrubbed: 1, Decision: sallyport.EgressAllowed}},
				Lost: 12,
			}}},
		runPassed: {{Job: jobBig, Name: "test", Key: "test", Attempt: 1, Rules: sallyport.EgressRules{Level: sallyport.EgressListed, Observe: true, Commit: commit, File: sallyport.PlanFile{Path: ".sallyport/egress.yaml"}},
			Record: sallyport.DoorRecord{Flows: []sallyport.Flow{{Protocol: "tls", Host: "new.example.com", Port: 443, Decision: sallyport.EgressObserved, Reason: "host-not-allowed", Count: 2}}}}},
	}
}

func sampleCaches(f *fake) {
	add := func(n int, key, ref string, tier sallyport.Tier, run sallyport.RunID, size int64, age, used time.Duration) sallyport.CacheEntry {
		c := sallyport.CacheEntry{ID: id[sallyport.CacheID]("ca00", n), Project: "p-shop", Key: key, Version: "1", Ref: ref, Tier: tier, Run: run,
			Digest: sallyport.DigestOf([]byte(key)), Size: size, CreatedAt: ago(age), UsedAt: ago(used)}
		f.caches = append(f.caches, c)
		return c
	}
	now := add(4, "go-build-linux-9f31c2", "refs/heads/main", sallyport.TierProtected, runPassed, 212<<20, 3*time.Hour, 2*time.Minute)
	poison := add(3, "npm-linux-77aa01", "refs/pull/44/merge", sallyport.TierUntrusted, runFailed, 3<<20, 5*time.Hour, 5*time.Hour)
	add(2, "npm-linux-77aa00", "refs/heads/main", sallyport.TierProtected, runPassed, 61<<20, 30*time.Hour, 4*time.Hour)
	add(1, hostile, "refs/heads/<i>evil</i>", sallyport.TierMember, runHostile, 12, 90*time.Hour, 90*time.Hour)
	use := func(run sallyport.RunID, job sallyport.JobID, how sallyport.CacheOutcome, c sallyport.CacheEntry) {
		f.cacheUses = append(f.cacheUses, sallyport.CacheUse{Run: run, Job: job, Attempt: 1, Outcome: how, Entry: c, At: ago(2 * time.Minute)})
	}
	use(runNow, jobLive, sallyport.CacheRestored, now)
	use(runNow, id[sallyport.JobID]("1100", 5), sallyport.CacheRefused, poison)
	use(runHostile, jobHostile, sallyport.CacheReadOnly, sallyport.CacheEntry{Key: hostile})
	use(runHostile, jobHostile, sallyport.CacheAltered, now)
}

func sampleRuns(f *fake) {
	add := func(r sallyport.Run, age, took time.Duration) {
		r.Push, r.Event, r.Tier, r.PlanDigest = "push", "push", sallyport.TierProtected, sallyport.DigestOf([]byte(r.Title))
		if r.Name == "" {
			r.Name, r.Workflow = "ci", ".github/workflows/ci.yml"
		}
		if r.Ref == "" {
			r.Ref = "refs/heads/main"
		} else {
			r.Tier = sallyport.TierMember
		}
		r.CreatedAt, r.StartedAt = ago(age), ago(age-2*time.Second)
		if took > 0 {
			r.FinishedAt, r.Status = r.StartedAt.Add(took), sallyport.StatusCompleted
		}
		f.runs = append(f.runs, r)
	}
	add(sallyport.Run{ID: runNow, Project: "p-shop", Number: 128, Title: "checkout: retry the payment once when the bank times out", Commit: commitNow, Actor: "person:anna", Status: sallyport.StatusInProgress}, 94*time.Second, 0)
	add(sallyport.Run{ID: id[sallyport.RunID]("aa00", 41), Project: "p-billing", Number: 41, Title: "invoice: round half to even", Commit: "3d0b8a1f5c2e", Ref: "refs/heads/rounding", Actor: "person:jo", Status: sallyport.StatusQueued}, 20*time.Second, 0)
	add(sallyport.Run{ID: runFailed, Project: "p-shop", Number: 127, Title: "cart: keep the coupon when an item is removed", Commit: "5f9d2c7be8a1", Ref: "refs/heads/coupon", Actor: "person:mehmet", Conclusion: sallyport.Failure, Cause: "job test (1.26) failed at step “go test”"}, 26*time.Minute, 71*time.Second)
	add(sallyport.Run{ID: runPassed, Project: "p-shop", Number: 126, Title: "search: index titles too", Commit: commitLive, Actor: "person:anna", Conclusion: sallyport.Success}, 3*time.Hour, 48*time.Second)
	add(sallyport.Run{ID: runHostile, Project: "p-shop", Number: 125, Title: hostile, Commit: `"><b>x`, Ref: "refs/heads/<i>evil</i>", Actor: "person:<b>", Name: hostile, Workflow: ".github/workflows/<x>.yml", Conclusion: sallyport.Failure, Cause: hostile}, 5*time.Hour, 3*time.Second)
	for i := range 14 {
		c, cause := sallyport.Success, ""
		if i == 4 {
			c, cause = sallyport.Cancelled, "replaced by a newer run of the group deploy"
		}
		title := []string{"deps: bump x/net", "api: page the order list", "ui: larger touch targets", "db: add an index on orders(customer)", "ci: split lint from test"}[i%5]
		p := f.projects[i%2]
		add(sallyport.Run{ID: id[sallyport.RunID]("bb00", 100-i), Project: p.ID, Number: int64(100 - i), Title: title, Commit: fmt.Sprintf("%012x", 0xabcdef01234+i*7919), Actor: "person:jo", Conclusion: c, Cause: cause}, time.Duration(6+i*5)*time.Hour, time.Duration(31+i*3)*time.Second)
	}
}

func step(n int, name string, from, took time.Duration, c sallyport.Conclusion) sallyport.Step {
	s := sallyport.Step{Number: n, Name: name, Status: sallyport.StatusCompleted, Outcome: c, Conclusion: c, StartedAt: ago(from)}
	if took > 0 {
		s.FinishedAt = s.StartedAt.Add(took)
	} else {
		s.Status = sallyport.StatusInProgress
	}
	return s
}

var sampleRoom = &sallyport.Isolation{Level: "standard", Runtime: "runc 1.5.2", Network: "none",
	Enforced:    []string{"capabilities", "memory", "mount namespace", "network namespace", "no new privileges", "pid namespace", "processes", "seccomp", "user namespace"},
	NotEnforced: []sallyport.Gap{{What: "disk", Why: "the host's file system has no project quotas"}}}

func sampleJobs(f *fake) {
	job := func(run sallyport.RunID, id sallyport.JobID, key, name string, needs []string, s sallyport.Status, c sallyport.Conclusion, from, took time.Duration) sallyport.Job {
		j := sallyport.Job{ID: id, Run: run, Key: key, Name: name, Needs: needs, Labels: []string{"linux"}, Status: s, Conclusion: c, Attempt: 1, Isolation: sampleRoom}
		if from > 0 {
			j.StartedAt = ago(from)
		}
		if took > 0 {
			j.FinishedAt = j.StartedAt.Add(took)
		}
		return j
	}
	done, busy, wait := sallyport.StatusCompleted, sallyport.StatusInProgress, sallyport.StatusWaiting
	ok, bad := sallyport.Success, sallyport.Failure

	lint := job(runNow, id[sallyport.JobID]("1100", 1), "lint", "lint", nil, done, ok, 92*time.Second, 9*time.Second)
	lint.Steps = []sallyport.Step{step(1, "Check out the repository", 92*time.Second, 400*time.Millisecond, ok), step(2, "go vet ./...", 91*time.Second, 8*time.Second, ok)}
	test := job(runNow, jobLive, "test", "test (1.26, linux)", []string{"lint"}, busy, "", 82*time.Second, 0)
	test.Matrix = json.RawMessage(`{"go":"1.26","os":"linux"}`)
	test.Steps = []sallyport.Step{step(1, "Check out the repository", 82*time.Second, 380*time.Millisecond, ok), step(2, "go test ./...", 81*time.Second, 0, "")}
	test2 := job(runNow, id[sallyport.JobID]("1100", 3), "test", "test (1.25, linux)", []string{"lint"}, done, ok, 82*time.Second, 44*time.Second)
	test2.Matrix, test2.Index = json.RawMessage(`{"go":"1.25","os":"linux"}`), 1
	test3 := job(runNow, id[sallyport.JobID]("1100", 4), "test", "test (tip, linux)", []string{"lint"}, sallyport.StatusQueued, "", 0, 0)
	test3.Matrix, test3.Index = json.RawMessage(`{"go":"tip","os":"linux"}`), 2
	gen := job(runNow, id[sallyport.JobID]("1100", 5), "assets", "assets", nil, done, ok, 92*time.Second, 21*time.Second)
	build := job(runNow, id[sallyport.JobID]("1100", 6), "build", "build", []string{"lint", "test", "assets"}, wait, "", 0, 0)
	smoke := job(runNow, id[sallyport.JobID]("1100", 7), "smoke", "smoke test", []string{"build"}, wait, "", 0, 0)
	docs := job(runNow, id[sallyport.JobID]("1100", 8), "docs", "Handbook", nil, busy, "", 90*time.Second, 0)
	docs.Uses, docs.Labels, docs.Isolation, docs.Admitted = "./.github/workflows/docs.yml", nil, nil, true
	pages := job(runNow, id[sallyport.JobID]("1100", 9), "docs/pages", "Handbook / Pages", nil, done, ok, 90*time.Second, 31*time.Second)
	pages.Parent, pages.Steps = docs.ID, []sallyport.Step{step(1, "make pages", 90*time.Second, 30*time.Second, ok)}
	publish := job(runNow, id[sallyport.JobID]("1100", 10), "docs/publish", "Handbook / Publish", []string{"docs/pages"}, wait, "", 0, 0)
	publish.Parent, publish.Admitted, publish.Environment = docs.ID, true, &sallyport.JobEnvironment{Name: "handbook", URL: "https://handbook.example.org"}
	publish.Cause = "waits for approval of environment handbook: 0 of 1; see sallyport approvals show 0197a000-0000-7000-8000-000000000001"
	f.jobs[runNow] = []sallyport.Job{lint, gen, test, test2, test3, build, smoke, docs, pages, publish}

	fl := job(runFailed, id[sallyport.JobID]("2200", 1), "lint", "lint", nil, done, ok, 26*time.Minute, 8*time.Second)
	ft := job(runFailed, jobFailed, "test", "test (1.26)", []string{"lint"}, done, bad, 26*time.Minute, 62*time.Second)
	ft.Cause = "step 3 failed with exit code 1"
	ft.Steps = []sallyport.Step{
		step(1, "Check out the repository", 26*time.Minute, 390*time.Millisecond, ok), step(2, "go build ./...", 26*time.Minute, 14*time.Second, ok),
		step(3, "go test", 25*time.Minute, 46*time.Second, bad), step(4, "Upload coverage", 25*time.Minute, 10*time.Millisecond, sallyport.Skipped)}
	ft.Steps[2].ExitCode, ft.Steps[2].Cause = 1, "exit code 1"
	ft.Steps[2].Annotations = []sallyport.Annotation{{Level: "error", File: "cart/cart_test.go", Line: 88, Title: "TestRemoveKeepsCoupon", Message: "got total 90.00, want 81.00"}}
	ft.Steps[2].Summary = "## Tests\n\n| passed | failed |\n|---|---|\n| 214 | 1 |\n"
	fb := job(runFailed, id[sallyport.JobID]("2200", 3), "build", "build", []string{"test"}, done, sallyport.Skipped, 0, 0)
	f.jobs[runFailed] = []sallyport.Job{fl, ft, fb}

	pb := job(runPassed, jobPassed, "build", "build", []string{"test"}, done, ok, 3*time.Hour, 20*time.Second)
	pb.Steps = []sallyport.Step{step(1, "Check out the repository", 3*time.Hour, 400*time.Millisecond, ok), step(2, "go build", 3*time.Hour, 18*time.Second, ok), step(3, "Upload shop", 3*time.Hour, 240*time.Millisecond, ok)}
	big := job(runPassed, jobBig, "test", "test", nil, done, ok, 3*time.Hour, 24*time.Second)
	for i := range 8 {
		big.Steps = append(big.Steps, step(i+1, fmt.Sprintf("shard %d of 8", i+1), 3*time.Hour, 3*time.Second, ok))
	}
	f.jobs[runPassed] = []sallyport.Job{big, pb}

	h := job(runHostile, jobHostile, `<x "key'`, hostile, []string{`<x "key'`, "gone"}, done, bad, 5*time.Hour, time.Second)
	h.Cause, h.Labels = hostile, []string{hostile}
	h.Steps = []sallyport.Step{step(1, hostile, 5*time.Hour, time.Second, bad)}
	h.Steps[0].Cause, h.Steps[0].Summary = hostile, hostile
	h.Steps[0].Annotations = []sallyport.Annotation{{Level: "error", File: hostile, Message: hostile, Title: hostile}}
	f.jobs[runHostile] = []sallyport.Job{h}
	f.plan = &sallyport.Plan{Warnings: []sallyport.Diagnostic{{File: ".github/workflows/ci.yml", Pos: sallyport.Pos{Line: 14, Col: 9}, Severity: "warning", Message: "runs-on “ubuntu-latest” is served by the label linux"},
		{File: ".github/workflows/ci.yml", Pos: sallyport.Pos{Line: 15, Col: 9}, Severity: "note", Message: "a note of no consequence"}}}
}

// encode makes the log's encoding of lines.
func encode(lines ...sallyport.LogLine) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for _, l := range lines {
		_ = e.Encode(l) // plain values always encode
	}
	return b.Bytes()
}

func sampleLogs(f *fake) {
	at := ago(26 * time.Minute).UnixMilli()
	line := func(step int, kind sallyport.LogKind, text string) sallyport.LogLine {
		at += 137
		return sallyport.LogLine{At: at, Step: step, Kind: kind, Text: text}
	}
	failed := []sallyport.LogLine{
		line(0, sallyport.LogSystem, "room ready in 41 ms: runc 1.5.2, network none"),
		line(1, sallyport.LogSystem, "checked out 5f9d2c7be8a1 (214 files)"),
		line(2, sallyport.LogCommand, "go build ./..."), line(2, "", "shop/internal/cart"), line(2, "", "shop/internal/checkout"), line(2, "", "shop/cmd/shop"),
		line(3, sallyport.LogCommand, "go test ./... -race"), line(3, sallyport.LogGroup, "environment"), line(3, "", "GOFLAGS=-mod=vendor"), line(3, "", "GOMAXPROCS=2"), line(3, sallyport.LogEndGroup, "")}
	for i := range 60 {
		failed = append(failed, line(3, "", fmt.Sprintf("\x1b[32mok\x1b[0m  \tshop/internal/pkg%02d\t%d.%03ds", i, i%3, i*37%1000)))
	}
	failed = append(failed, line(3, "", "\x1b[1;31m--- FAIL: TestRemoveKeepsCoupon (0.02s)\x1b[0m"),
		line(3, sallyport.LogError, "    cart_test.go:88: got total 90.00, want 81.00"),
		line(3, "", "\x1b[31mFAIL\x1b[0m\tshop/internal/cart\t0.311s"), line(3, sallyport.LogWarning, "coverage is below 80 %"),
		line(3, "", "FAIL"), line(3, sallyport.LogError, "process ended with exit code 1"), line(0, sallyport.LogSystem, "room destroyed in 12 ms"))
	f.logs[jobFailed] = &fakeLog{encode(failed...), true}
	f.logs[jobHostile] = &fakeLog{append(encode(line(1, "", hostile), line(1, "\"><script>", hostile), line(1, "", "\x1b[31m"+hostile)), "not json\n"...), true}
	f.logs[jobLive] = &fakeLog{encode(line(0, sallyport.LogSystem, "room ready in 38 ms: runc 1.5.2, network none"), line(1, sallyport.LogSystem, "checked out b41f9e07d6c5"),
		line(2, sallyport.LogCommand, "go test ./..."), line(2, "", "\x1b[32mok\x1b[0m  \tshop/internal/cart\t0.204s"), line(2, "", "\x1b[32mok\x1b[0m  \tshop/internal/search\t1.871s")), false}
	f.logs[jobPassed] = &fakeLog{encode(line(1, sallyport.LogSystem, "checked out"), line(2, sallyport.LogCommand, "go build"), line(3, sallyport.LogSystem, "kept shop, 8.1 MiB")), true}
	var big bytes.Buffer
	for i := range bigLines {
		fmt.Fprintf(&big, `{"t":%d,"s":%d,"x":"\u001b[3%dm%06d\u001b[0m compile package number %d of the tree with some more words"}`+"\n", at+int64(i), 1+i*8/bigLines, i%7+1, i+1, i%977)
	}
	f.logs[jobBig] = &fakeLog{big.Bytes(), true}
}

func sampleEvidence(f *fake) {
	add := func(n int, run sallyport.RunID, job sallyport.JobID, name string, content string) sallyport.Artifact {
		a := sallyport.Artifact{ID: id[sallyport.ArtifactID]("a100", n), Project: "p-shop", Run: run, Job: job, Name: name, Filename: name, MediaType: "application/octet-stream",
			Digest: sallyport.DigestOf([]byte(content)), Size: int64(len(content)), Tier: sallyport.TierProtected, CreatedAt: ago(3 * time.Hour)}
		a.Files = []sallyport.ArtifactFile{{Path: name, Mode: 0o755, Size: a.Size, Digest: a.Digest}}
		f.artifacts, f.content[a.ID] = append(f.artifacts, a), content
		return a
	}
	shop := add(1, runPassed, jobPassed, "shop", "the shop, as built")
	add(2, runPassed, jobPassed, "coverage", "mode: atomic")
	tampered := add(3, runHostile, jobHostile, "shop-tampered", "not what was built")

	predicate, _ := json.Marshal(map[string]any{
		"buildDefinition": map[string]any{"buildType": "https://github.com/sallyport-ci/sallyport/buildtypes/workflow/v1",
			"resolvedDependencies": []any{map[string]any{"uri": "git+https://ci.example.org/shop.git@refs/heads/main", "digest": map[string]string{"gitCommit": commitLive}},
				map[string]any{"name": "runc", "digest": map[string]string{"sha256": "4f1c9be07a7e6f3b2d5c8a9e0f1d2c3b4a5968778695a4b3c2d1e0f9a8b7c6d5"}}}},
		"runDetails": map[string]any{"builder": map[string]string{"id": "https://ci.example.org/builders/standard"}}})
	say := func(n int, a sallyport.Artifact, typ string, verified bool) {
		st := sallyport.Statement{ID: id[sallyport.StatementID]("5100", n), Project: a.Project, Run: a.Run, Subjects: []sallyport.Digest{a.Digest}, PredicateType: typ,
			Identity: sampleIdentity, LogIndex: int64(400 + n), Bundle: []byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`), CreatedAt: ago(3 * time.Hour)}
		f.statements = append(f.statements, st)
		if verified {
			f.checked = append(f.checked, sallyport.Checked{Subject: a.Digest, Identity: sampleIdentity, Issuer: sampleIssuer, PredicateType: typ, Predicate: predicate, LogIndex: st.LogIndex, SignedAt: ago(3*time.Hour - 50*time.Second)})
		}
	}
	say(1, shop, sallyport.PredicateProvenance, true)
	say(2, shop, sallyport.PredicateVSA, true)
	say(3, shop, sallyport.PredicateDeployment, true)
	say(4, tampered, sallyport.PredicateProvenance, false)

	input := []byte(`{"environment":"production","subject":"` + string(shop.Digest) + `","provenance":{"verified":true,"builder":"https://ci.example.org/builders/standard","ref":"refs/heads/main"}}`)
	policy := []byte("package sallyport.gate\n\ndefault allow := false\n\nallow if {\n\tinput.provenance.verified\n\tinput.provenance.ref == input.protected_ref\n}\n")
	judge := func(n int, a sallyport.Artifact, d sallyport.Decision, age time.Duration, env string, reasons ...string) {
		f.verdicts = append(f.verdicts, sallyport.Verdict{ID: id[sallyport.VerdictID]("7100", n), Project: a.Project, Run: a.Run, Gate: "deploy", Environment: env, Subject: a.Digest, Artifact: a.Name,
			Decision: d, Reasons: reasons, PolicyDigest: sallyport.DigestOf(policy), InputDigest: sallyport.DigestOf(input), Policy: policy, Input: input, At: ago(age)})
	}
	judge(9, tampered, sallyport.Deny, 2*time.Hour, "production", "no verified provenance names this digest", "the bytes are not those that run #126 produced")
	judge(8, shop, sallyport.Allow, 3*time.Hour-time.Minute, "production", "provenance verifies for this digest", "built from refs/heads/main, the protected branch", "built by https://ci.example.org/builders/standard")
	judge(7, shop, sallyport.Ask, 3*time.Hour-30*time.Second, "staging", "a first deployment to staging wants a person's yes")
}

func sampleDeployments(f *fake) {
	shop := f.artifacts[0]
	spec := sallyport.EnvironmentSpec{Name: "production", Artifact: "shop", Workflow: ".github/workflows/ci.yml", Port: 8080, Listen: "127.0.0.1:9100", Drain: 10 * time.Second,
		Health: sallyport.HealthSpec{Path: "/healthz", Interval: time.Second, Healthy: 2, Startup: 30 * time.Second, Watch: time.Minute, MaxErrors: 3}}
	add := func(env string, number int64, s sallyport.DeploymentState, weight int, age time.Duration, commit, cause string) sallyport.DeploymentID {
		d := sallyport.Deployment{ID: id[sallyport.DeploymentID]("d"+env[:3], int(number)), Project: "p-shop", Environment: env, Release: "rel", Digest: shop.Digest, Commit: commit, Number: number, State: s,
			Cause: cause, Actor: "system:gate", Weight: weight, Spec: spec, CreatedAt: ago(age), StartedAt: ago(age - time.Second)}
		if s.Final() {
			d.FinishedAt = d.StartedAt.Add(64 * time.Second)
		}
		f.deployments = append(f.deployments, d)
		return d.ID
	}
	live := add("production", 15, sallyport.DeployLive, 100, 100*time.Minute, commitLive, "rollback of #14: 3 errors in a row under full traffic")
	f.deployments[0].RollbackOf = id[sallyport.DeploymentID]("dpro", 14)
	add("production", 14, sallyport.DeployRolledBack, 0, 105*time.Minute, commitBad, "3 errors in a row: GET / answered 500; traffic went back to #13 in 212 ms")
	add("production", 13, sallyport.DeploySuperseded, 0, 3*time.Hour, commitLive, "")
	add("production", 12, sallyport.DeployRefused, 0, 4*time.Hour, commitBad, "the gate denied it: no verified provenance names this digest")
	add("production", 11, sallyport.DeployFailed, 0, 26*time.Hour, "9a8b7c6d5e4f", "never healthy: GET /healthz answered 503 for 30 s")
	add("production", 10, sallyport.DeploySuperseded, 0, 50*time.Hour, "1f2e3d4c5b6a", "")
	trial := add("staging", 31, sallyport.DeployWatching, 90, 40*time.Second, commitNow, "")
	old := add("staging", 30, sallyport.DeployLive, 10, 28*time.Hour, commitLive, "")
	f.envs = []sallyport.Environment{
		{Project: "p-shop", Name: "production", URL: "http://127.0.0.1:9100", Live: live, Previous: id[sallyport.DeploymentID]("dpro", 13), At: ago(100 * time.Minute)},
		{Project: "p-shop", Name: "staging", URL: "http://127.0.0.1:9101", Live: trial, Previous: old, At: ago(40 * time.Second)},
		{Project: "p-billing", Name: "production"},
	}
	f.health[live] = sallyport.Health{OK: true, Latency: 1400 * time.Microsecond, At: ago(2 * time.Second)}
	f.traffic[live] = sallyport.Traffic{Requests: 48210, Errors: 3, P95: 11 * time.Millisecond}
	f.health[trial] = sallyport.Health{OK: false, Why: "GET /healthz answered 503", Latency: 2100 * time.Microsecond, At: ago(time.Second)}
	f.traffic[trial] = sallyport.Traffic{Requests: 310, Errors: 2, ErrorsInARow: 2, P95: 19 * time.Millisecond}
}

func sampleOperations(f *fake) {
	events := []struct{ actor, action, object, detail string }{
		{"person:anna", "run.created", "run/" + string(runNow), `{"number":128,"ref":"refs/heads/main"}`},
		{"person:mehmet", "push.accepted", "project/shop", `{"ref":"refs/heads/coupon","commit":"5f9d2c7be8a1"}`},
		{"nobody", "access.denied", "request/POST /login", `{"why":"the one-time link is used up"}`},
		{"system:watch", "deployment.rolled_back", "deployment/" + string(id[sallyport.DeploymentID]("dpro", 14)), `{"cause":"3 errors in a row"}`},
		{"system:gate", "verdict.deny", "verdict/" + string(id[sallyport.VerdictID]("7100", 9)), `{"reasons":["no verified provenance names this digest"]}`},
		{"system:collect", "artifact.kept", "artifact/" + string(f.artifacts[0].ID), `{"name":"shop"}`},
		{"runner:yard-1", "job.finished", "job/" + string(jobPassed), `{"conclusion":"success"}`},
	}
	for i := range 60 {
		e := events[i%len(events)]
		r := sallyport.AuditRecord{Seq: int64(4211 - i), At: ago(time.Duration(i*7) * time.Minute), Actor: e.actor, Action: e.action, Object: e.object, Detail: json.RawMessage(e.detail), LogIndex: int64(3300 - i)}
		if i == 0 {
			r.LogIndex = -1
		}
		f.records = append(f.records, r)
	}
	f.report = sallyport.AuditReport{OK: true, Records: 4212, Logged: 4211, Size: 3301, Root: "q3hM5l0pT0y3mKQj1zv8Zf1nP4bO2sXw7cR6dE9uA0k="}
	f.tokens = []sallyport.Token{
		{ID: "t1", Name: "laptop", Kind: sallyport.TokenAPI, Principal: sallyport.Principal{Kind: sallyport.Person, Name: "anna"}, CreatedAt: ago(20 * 24 * time.Hour), ExpiresAt: sampleNow.Add(10 * 24 * time.Hour), UsedAt: ago(94 * time.Second)},
		{ID: "t2", Name: "release-bot", Kind: sallyport.TokenAPI, Principal: sallyport.Principal{Kind: sallyport.Bot, Name: "release-bot"}, CreatedAt: ago(9 * 24 * time.Hour), ExpiresAt: sampleNow.Add(80 * 24 * time.Hour)},
	}
	f.records = append(f.records, sallyport.AuditRecord{Seq: 9, At: ago(50 * time.Hour), Actor: "person:anna", Action: "access.changed", Object: "instance", LogIndex: 7,
		Detail: json.RawMessage(`{"gained":[{"principal":"Person::\"person/ben\"","action":"deploy","resource":"Environment::\"shop/production\""}],"asked":1204}`)})
	f.accounts = []sallyport.Account{
		{ID: "agent/fixer", Kind: sallyport.Agent, Name: "fixer", Sponsor: "person/ben", Projects: []sallyport.ProjectID{f.projects[0].ID}, CreatedAt: ago(time.Hour)},
		{ID: "person/anna", Kind: sallyport.Person, Name: "anna", Admin: true, CreatedAt: ago(40 * 24 * time.Hour)},
		{ID: "person/ben", Kind: sallyport.Person, Name: "ben", Teams: []string{"ops"}, CreatedAt: ago(9 * 24 * time.Hour)},
	}
	f.rules = sallyport.AccessRules{File: sallyport.AccessFile{Source: "permit …", Actor: "person:anna", At: ago(50 * time.Hour)}, Rules: []sallyport.AccessRule{
		{ID: "builtin/environments-are-apart", Effect: "forbid", Text: "forbid (principal, action, resource)\nwhen { principal.environment != resource.environment };"},
		{ID: "access.cedar#1", Effect: "permit", Text: "permit (principal in Team::\"ops\", action == Action::\"deploy\", resource == Environment::\"shop/production\");"},
	}}
	f.holders = []sallyport.Holder{{Principal: `Agent::"agent/fixer"`}, {Principal: `Person::"person/anna"`, Always: true}}
	f.requests = sampleRequests()
	f.grants = []sallyport.GrantStatus{
		{State: sallyport.GrantActive, Uses: 2, Grant: sallyport.Grant{ID: "9a00", Holder: sallyport.Party{Kind: sallyport.Person, ID: "person/ben", Name: "ben"}, Action: "secrets", Resource: `Environment::"shop/production"`, EndsAt: sampleNow.Add(22 * time.Minute)}},
		{State: sallyport.GrantExpired, Uses: 1, Grant: sallyport.Grant{ID: "9a01", Holder: sallyport.Party{Kind: sallyport.Person, ID: "person/jo", Name: "jo"}, Action: "deploy", Resource: `Project::"billing"`, Emergency: true, EndsAt: ago(5 * time.Hour)}},
	}
	weak := *sampleRoom
	weak.Rootless, weak.NotEnforced = true, []sallyport.Gap{{What: "disk", Why: "the host's file system has no project quotas"}, {What: "memory", Why: "no cgroup is delegated to this user"}}
	f.issuer = sallyport.IssuerStatus{Issuer: "https://ci.example.org", Next: sampleNow.Add(60 * 24 * time.Hour), Keys: sallyport.IssuerKeys{
		{Kid: "kid-that-verifies", Algorithm: sallyport.RS256, MadeAt: ago(2000 * time.Hour), SignsFrom: ago(2000 * time.Hour), GoneAt: sampleNow.Add(time.Hour)},
		{Kid: "kid-that-signs", Algorithm: sallyport.RS256, MadeAt: ago(25 * time.Hour), SignsFrom: ago(time.Hour)},
		{Kid: "kid-that-waits", Algorithm: sallyport.RS256, MadeAt: ago(time.Hour), SignsFrom: sampleNow.Add(23 * time.Hour)}}}
	f.issued = map[sallyport.JobID][]sallyport.IssuedToken{jobFailed: {
		{At: ago(3 * time.Minute), Audience: "casino.example", Refused: "the job may have no ID token for the audience"},
		{At: ago(4 * time.Minute), Audience: "sts.amazonaws.com", Subject: "repo:shop-01KB0:ref:refs/heads/main", ID: "01KB1", Kid: "k", Step: 2}}}
	f.instance = sallyport.InstanceHealth{Ready: true, Version: "0.1.0", Queues: map[string]int{"runner": 2, "deploy": 1, "watch": 2},
		Runners: []sallyport.RunnerStatus{{ID: "r1", Name: "yard-1", Isolation: *sampleRoom, Busy: jobLive, SeenAt: ago(2 * time.Second)}, {ID: "r2", Name: "laptop-of-jo", Isolation: weak, SeenAt: ago(9 * time.Second)}},
		Audit:   sallyport.AuditHealth{Records: 4212, Logged: 4211}}
}

func sampleRequests() []sallyport.RequestStatus {
	mehmet, jo := sallyport.Party{Kind: sallyport.Person, ID: "person/mehmet", Name: "mehmet"}, sallyport.Party{Kind: sallyport.Person, ID: "person/jo", Name: "jo"}
	digest := func(s string) sallyport.Digest { return sallyport.DigestOf([]byte(s)) }
	release := sallyport.AccessRequest{ID: id[sallyport.RequestID]("4e00", 1), Kind: sallyport.RequestRelease, Project: "p-shop", Environment: "production", Subject: "deployment/" + string(id[sallyport.DeploymentID]("dpro", 14)), By: mehmet,
		Why: "checkout: retry the payment once when the bank does not answer", Needed: 2, Reviewers: []string{"team/ops", "person/anna"}, Hours: sallyport.Windows{"mon-fri 09:00-17:00 Europe/Vienna"}, CreatedAt: ago(12 * time.Minute), ExpiresAt: sampleNow.Add(7 * 24 * time.Hour),
		Bound: sallyport.Bound{Base: commitLive, Commit: commitNow, Plan: digest("plan"), Artifact: digest("artifact"), Evidence: digest("evidence"), Policy: digest("rules")}}
	access := sallyport.AccessRequest{ID: id[sallyport.RequestID]("4e00", 2), Kind: sallyport.RequestAccess, Project: "p-shop", Environment: "production", By: jo, Action: "secrets", Resource: `Environment::"shop/production"`,
		For: 30 * time.Minute, Once: true, Why: "rotate DATABASE_PASSWORD, ticket OPS-311", Needed: 1, CreatedAt: ago(3 * time.Minute), ExpiresAt: sampleNow.Add(7 * 24 * time.Hour), Bound: sallyport.Bound{Policy: digest("policies")}}
	review := sallyport.AccessRequest{ID: id[sallyport.RequestID]("4e00", 3), Kind: sallyport.RequestReview, Project: "p-shop", By: jo, Action: "deploy", Resource: `Project::"billing"`, Emergency: true, Needed: 1, CreatedAt: ago(6 * time.Hour), ExpiresAt: sampleNow.Add(18 * time.Hour), Why: "invoices go out twice"}
	old := sallyport.AccessRequest{ID: id[sallyport.RequestID]("4e00", 4), Kind: sallyport.RequestJob, Project: "p-shop", Environment: "handbook", Run: runPassed, By: mehmet, Needed: 1, CreatedAt: ago(30 * time.Hour), Bound: sallyport.Bound{Commit: commitLive}}
	vote := sallyport.AccessEvent{Kind: sallyport.EventVote, Word: "approve", Note: "read it", By: sallyport.Party{Kind: sallyport.Person, ID: "person/ben", Name: "ben"}, At: ago(4 * time.Minute)}
	return []sallyport.RequestStatus{
		{Request: access, Digest: access.Digest(), State: sallyport.RequestPending, MayVote: []string{"person/anna", "person/ben"}, Effect: &sallyport.RequestEffect{Access: &sallyport.AccessChange{Asked: 1204,
			Gained: []sallyport.Reach{{Principal: `Person::"person/jo"`, Action: "secrets", Resource: `Environment::"shop/production"`}}}}},
		{Request: release, Digest: release.Digest(), State: sallyport.RequestPending, Votes: []sallyport.AccessEvent{vote}, MayVote: []string{"person/anna", "person/carl"}, Effect: &sallyport.RequestEffect{From: commitLive, To: commitNow,
			Subject: "checkout: retry the payment", Authors: []string{"Mehmet Aydin", "mehmet@example.com"}, Changed: []string{"internal/checkout/pay.go", "internal/checkout/pay_test.go", ".github/workflows/ci.yml"},
			Verdict: id[sallyport.VerdictID]("7100", 8), Decision: sallyport.Ask, Reasons: []string{"provenance by https://ci.example.org/builders/standard for " + string(digest("artifact")) + " from refs/heads/main at " + commitNow, "environment production asks for the approval of 2, and 0 gave it"}}},
		{Request: review, Digest: review.Digest(), State: sallyport.RequestPending, Objection: "whoever asks does not approve"},
		{Request: old, Digest: old.Digest(), State: sallyport.RequestVoid, Why: "the evidence changed"},
	}
}
