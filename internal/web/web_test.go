package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// front is the handler over a fake, as a browser reaches it.
type front struct {
	*fake
	handler http.Handler
}

func newFront(t testing.TB) *front {
	t.Helper()
	f := newFake()
	h, err := New(Config{Services: f.services(), BaseURL: "http://127.0.0.1:8080", Version: "0.1.0", Now: func() time.Time { return sampleNow }})
	if err != nil {
		t.Fatal(err)
	}
	return &front{f, h}
}

// do sends a request with the session's cookie unless anonymous.
func (f *front) do(t testing.TB, anonymous bool, method, target string, form url.Values, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(form.Encode()))
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if !anonymous {
		r.AddCookie(&http.Cookie{Name: "sallyport", Value: "good"})
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w.Result()
}

func (f *front) get(t testing.TB, target string) (int, string) {
	t.Helper()
	resp := f.do(t, false, "GET", target, nil)
	return resp.StatusCode, body(t, resp)
}

func body(t testing.TB, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pages are all pages of the sample, with the words that make each of them.
var pages = []struct {
	name, path string
	want       []string
}{
	{"home", "/", []string{"What is going on", "Running now", "Failed lately", "checkout: retry the payment", "What runs where", "4211<small> of 4212 records"}},
	{"projects", "/projects", []string{"New project", `name="name"`, ">shop<", "handbook", "no run yet"}},
	{"project", "/projects/shop", []string{"http://127.0.0.1:8080/shop.git", "git push sallyport main", "Start a workflow by hand"}},
	{"runs", "/runs", []string{"collecting evidence", `<option>shop</option>`, "invoice: round half to even"}},
	{"runs-filtered", "/runs?project=billing&status=queued", []string{"<option selected>billing</option>", "invoice: round"}},
	{"run", "/runs/" + string(runNow), []string{`data-live="/runs/`, "Cancel run", ">tip, linux<", "test (tip, linux)", `class="edge`, "smoke test", "runs-on “ubuntu-latest”", "From the cache", "restored, by test (1.26, linux)", "refused: a run of a lower tier saved it, by assets"}},
	{"run-failed", "/runs/" + string(runFailed), []string{"Why it failed", "cart/cart_test.go:88", "got total 90.00, want 81.00", "exit code 1", "refused 18 times", "--- FAIL: TestRemoveKeepsCoupon"}},
	{"run-passed", "/runs/" + string(runPassed), []string{"SLSA provenance", "/artifacts/", "a first deployment to staging"}},
	{"job", "/runs/" + string(runFailed) + "/jobs/" + string(jobFailed), []string{`id="L1"`, `class="f2">ok</span>`, "/log?download=1", "Upload coverage", "Not enforced: disk", "ID tokens: 2 asked for", "casino.example", `href="#step-2"`, "repo:shop-01KB0:ref"}},
	{"trace", "/runs/" + string(runPassed) + "/jobs/" + string(jobBig) + "/trace", []string{"431 starts", "3 programs", "modified", ">shop</td>", "not known", "Not seen: restored-files", "3 more are not kept"}},
	{"trace-none", "/runs/" + string(runNow) + "/jobs/" + string(jobLive) + "/trace", []string{"Nothing was recorded."}},
	{"door", "/runs/" + string(runFailed) + "/jobs/" + string(jobFailed) + "/network", []string{"Network <strong>registries</strong>", "collector.evil.example", "sallyport egress learn proposes the rule", "Rules name hosts", "pkg:npm/lodahs@4.17.21", "Credentials used", "12 more were not kept"}},
	{"door-observe", "/runs/" + string(runPassed) + "/jobs/" + string(jobBig) + "/network", []string{"observe mode", "can be deployed", "observed"}},
	{"door-none", "/runs/" + string(runNow) + "/jobs/" + string(jobLive) + "/network", []string{"The job has not started."}},
	{"job-live", "/runs/" + string(runNow) + "/jobs/" + string(jobLive), []string{"log/events", "shop/internal/search"}},
	{"job-big", "/runs/" + string(runPassed) + "/jobs/" + string(jobBig), []string{`rel="next"`, "Next lines", "?offset="}},
	{"artifact", "/artifacts/" + string(id[string]("a100", 1)), []string{"Verified just now:", "3 of 3 statements", "cosign verify-blob-attestation --bundle shop.sigstore.json --trusted-root trusted_root.json --certificate-identity " + strings.ReplaceAll(sampleIdentity, "+", "&#43;"), "sallyport verify shop", "https://ci.example.org/builders/standard", "names it as the source", "sha256sum shop", "Who says so", "rolled back"}},
	{"artifact-tampered", "/artifacts/" + string(id[string]("a100", 3)), []string{"No verified provenance.", "not verified", "the bytes are not those"}},
	{"deployments", "/deployments", []string{"http://127.0.0.1:9100", "3 errors in a row", "rolled back", "refused", "Roll back", `name="reason"`, "unhealthy", `width="90"`}},
	{"environment", "/projects/shop/environments/production", []string{"#15", "superseded", "48210"}},
	{"deployment", "/deployments/" + string(id[string]("dpro", 14)), []string{"rolled back:", "3 errors in a row", "provenance verifies for this digest", "listening on :8080"}},
	{"gates", "/gates", []string{"denied", "allowed", "needs a yes"}},
	{"verdict", "/verdicts/" + string(id[string]("7100", 9)), []string{"no verified provenance names this digest", "Replay this decision", "package sallyport.gate", "&#34;verified&#34;: true"}},
	{"audit", "/audit", []string{"Verify the whole trail", "deployment.rolled_back", "/runs/" + string(runNow), "soon", "Older"}},
	{"caches", "/projects/shop/caches", []string{"go-build-linux-9f31c2", "refs/pull/44/merge", "212.0 MiB", "tier-untrusted", "4 entries here", "/delete"}},
	{"secrets", "/projects/shop/secrets", []string{"DATABASE_PASSWORD", "of prod", "all of the project", "Set a secret", "promoted", "1 running job holds the old value", "Rotate now", "by hand"}},
	{"secrets-none", "/projects/handbook/secrets", []string{"No secret is kept."}},
	{"caches-none", "/projects/handbook/caches", []string{"Nothing is saved."}},
	{"access", "/access", []string{"person/anna", "everything, as administrator", "what policies say", "newly lets <code>Person::&#34;person/ben&#34;</code> deploy", "builtin/environments-are-apart", "A file that person:anna set"}},
	{"access-who-can", "/access?action=deploy&resource=Environment%3A%3A%22shop%2Fproduction%22", []string{"2 principals can deploy", "<code>Agent::&#34;agent/fixer&#34;</code> under conditions", "<option selected>deploy</option>"}},
	{"access-who-knows", "/access?action=deploy&resource=shop", []string{"names no entity"}},
	{"approvals", "/approvals", []string{"3 requests are open", "asks for <strong>secrets</strong>", "1 of 2 said yes", "You may not vote: whoever asks does not approve.", "alone, in an emergency", "void", "/grants/9a00/revoke", "Look at it and decide"}},
	{"approval-release", "/approvals/" + string(id[string]("4e00", 1)), []string{"What a yes does", "internal/checkout/pay.go", "the verdict of the gate", "Mehmet Aydin", "to the byte", `name="digest" value="sha256:`, "One no stops it", "mon-fri 09:00-17:00"}},
	{"approval-access", "/approvals/" + string(id[string]("4e00", 2)), []string{"it newly lets", "Person::&#34;person/jo&#34;", "rotate DATABASE_PASSWORD", `value="reject"`}},
	{"approval-mine", "/approvals/" + string(id[string]("4e00", 3)), []string{"You may not vote"}},
	{"approval-over", "/approvals/" + string(id[string]("4e00", 4)), []string{"the evidence changed"}},
	{"stops", "/stops", []string{"1 thing is stopped", "runner yard-7", "it reached a host", "/stops/lift", "Stop it"}},
	{"tokens", "/tokens", []string{"release-bot", "New API token", "never"}},
	{"system", "/system", []string{"yard-1", "not enforced", "no cgroup is delegated", "all well", "Issuer of ID tokens", "kid-that-waits", ">waits<", ">signs<", ">verifies<"}},
	{"missing", "/runs/none", []string{"Nothing here", "there is no such run", "Request <code>"}},
}
