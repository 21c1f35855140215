package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/sallyport-ci/sallyport"
)

// screenshots names the directory into which TestScreenshots puts its pictures.
const screenshots = "SALLYPORT_SCREENSHOTS"

const chromium = "/usr/bin/chromium"

// browser opens a window on the pages, signed in. Anything that the page
// complains about, a breach of the content policy above all, fails the test.
func browser(t *testing.T, f *front) (context.Context, string) {
	t.Helper()
	if _, err := os.Stat(chromium); err != nil {
		t.Skipf("no browser at %s: install chromium", chromium)
	}
	if testing.Short() {
		t.Skip("-short: a browser takes seconds to start")
	}
	server := httptest.NewUnstartedServer(f.handler)
	base, stop := context.WithCancel(context.Background())
	server.Config.BaseContext = func(net.Listener) context.Context { return base }
	server.Start()
	t.Cleanup(func() { stop(); server.Close() })
	profile, err := os.MkdirTemp("", "sallyport-browser-") // the browser may still write into it when the test ends
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(profile) })
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.UserDataDir(profile),
		chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-sync", true),
		chromedp.WindowSize(1280, 800), chromedp.WSURLReadTimeout(60*time.Second))
	alloc, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	t.Cleanup(cancel)
	// Events that this version of the driver does not know are no fault of the page.
	ctx, cancel := chromedp.NewContext(alloc, chromedp.WithErrorf(func(string, ...any) {}))
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			t.Errorf("the page threw %s", e.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.APITypeError {
				t.Errorf("the page complained: %s", e.Args[0].Value)
			}
		case *cdplog.EventEntryAdded:
			if e.Entry.Level == cdplog.LevelError && !strings.Contains(e.Entry.Text, "404") {
				t.Errorf("the browser complained: %s %s", e.Entry.Text, e.Entry.URL)
			}
		}
	})
	run(t, ctx, cdplog.Enable(), network.SetCookie("sallyport", "good").WithURL(server.URL).WithHTTPOnly(true))
	return ctx, server.URL
}

func run(t *testing.T, ctx context.Context, actions ...chromedp.Action) {
	t.Helper()
	if err := chromedp.Run(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// until waits for a condition on the page, also across one that loads itself again.
func until(expression string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		for {
			err := chromedp.Poll(expression, nil, chromedp.WithPollingTimeout(30*time.Second)).Do(ctx)
			if err == nil || !strings.Contains(err.Error(), "navigated") && !strings.Contains(err.Error(), "context") || ctx.Err() != nil {
				return err
			}
		}
	})
}

func evaluate[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	var v T
	run(t, ctx, chromedp.Evaluate(expression, &v))
	return v
}

// press types one key as a keyboard does: a handler that keeps the key for
// itself also keeps its character.
func press(key string) chromedp.Action {
	text := key
	if name, ok := map[string]string{kb.Escape: "Escape", kb.Enter: "Enter"}[key]; ok {
		key, text = name, strings.TrimPrefix(text, kb.Escape)
	}
	return chromedp.Tasks{input.DispatchKeyEvent(input.KeyDown).WithKey(key).WithText(text), input.DispatchKeyEvent(input.KeyUp).WithKey(key)}
}

// settled waits until the viewer has painted.
const settled = `new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(true))))`

func settle() chromedp.Action {
	return chromedp.Evaluate(settled, nil, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) })
}

func TestLargeLogInBrowser(t *testing.T) {
	f := newFront(t)
	ctx, url := browser(t, f)
	start := time.Now()
	run(t, ctx, chromedp.Navigate(url+"/runs/"+string(runPassed)+"/jobs/"+string(jobBig)),
		until(`document.querySelector('.log-count')?.textContent === '200,000 lines'`))
	t.Logf("%d lines loaded in %s", bigLines, time.Since(start).Round(10*time.Millisecond))
	last := `[...document.querySelectorAll('.ln')].at(-1)?.textContent ?? ''`
	run(t, ctx, press("G"), settle(), until(last+`.startsWith('200000')`))
	if got := evaluate[string](t, ctx, last); got != "200000200000 compile package number 703 of the tree with some more words" && !strings.Contains(got, "200000 compile package") {
		t.Errorf("the last line is %q", got)
	}
	if n := evaluate[int](t, ctx, `document.querySelectorAll('*').length`); n >= 1000 {
		t.Errorf("%d elements in the document, want fewer than 1,000", n)
	} else {
		t.Logf("%d elements in the document", n)
	}
	shot(t, ctx, "log-end")

	top := `Number(document.querySelector('.ln')?.dataset.line)`
	run(t, ctx, press("g"), settle(), until(top+` === 0`), press("j"), settle(), until(top+` > 20000`))
	run(t, ctx, press("k"), settle(), until(top+` < 100`))
	run(t, ctx, press("/"), chromedp.KeyEvent("143210 compile"), until(`document.querySelector('.log-count').textContent === '1 of 1'`), settle())
	if got := evaluate[string](t, ctx, `document.querySelector('.ln.found')?.dataset.line ?? ''`); got != "143209" {
		t.Errorf("the search went to line %q, want 143209", got)
	}
	run(t, ctx, press(kb.Escape), press("/"), chromedp.KeyEvent("number 7 of"), until(`document.querySelector('.log-count').textContent === '1 of 205'`),
		press(kb.Enter), until(`document.querySelector('.log-count').textContent === '2 of 205'`))
	run(t, ctx, chromedp.Evaluate(`document.querySelector('.log').focus()`, nil), press("N"), until(`document.querySelector('.log-count').textContent === '1 of 205'`))
	shot(t, ctx, "log-search")
	run(t, ctx, press("?"), until(`document.querySelector('dialog[open]') !== null`), chromedp.KeyEvent(kb.Escape), until(`document.querySelector('dialog') === null`))

	run(t, ctx, chromedp.Navigate("about:blank"), chromedp.Navigate(url+"/runs/"+string(runPassed)+"/jobs/"+string(jobBig)+"#L150000-L150003"),
		until(`document.querySelectorAll('.ln.chosen').length === 4`), settle())
	if got := evaluate[string](t, ctx, `document.querySelector('.ln.chosen .no').textContent`); got != "150000" {
		t.Errorf("the link leads to line %q", got)
	}
}

func TestFailedLogInBrowser(t *testing.T) {
	f := newFront(t)
	ctx, url := browser(t, f)
	run(t, ctx, chromedp.Navigate(url+"/runs/"+string(runFailed)+"/jobs/"+string(jobFailed)), until(`document.querySelector('.log-count')?.textContent === '78 lines'`),
		until(`[...document.querySelectorAll('.ln.k-error')].some(e => e.textContent.includes('got total 90.00'))`)) // opens at the first error
	run(t, ctx, press("e"), until(`document.querySelector('.ln.chosen.k-error') !== null`), settle())
	shot(t, ctx, "log-failed")
	run(t, ctx, press("g"), settle(), until(`document.querySelector('.k-group') !== null`), chromedp.Click(`.k-group`), settle(),
		until(`!document.querySelector('.log').textContent.includes('GOMAXPROCS')`), chromedp.Click(`.k-group`), until(`document.querySelector('.log').textContent.includes('GOMAXPROCS')`))
	run(t, ctx, press("c"), settle(), until(`document.querySelectorAll('.ln').length === 0 && document.querySelectorAll('button.log-step').length === 5`))
	run(t, ctx, press("t"), until(`document.querySelector('.log.times') !== null`))
	run(t, ctx, chromedp.Evaluate(`document.querySelector('.steps a[href="#step-3"]').click()`, nil), settle(), until(`document.querySelector('.ln.k-command')?.textContent.includes('go test') === true`))
}

// TestANSIInBrowser holds the module's colours to the server's.
func TestANSIInBrowser(t *testing.T) {
	f := newFront(t)
	ctx, url := browser(t, f)
	run(t, ctx, chromedp.Navigate(url+"/login"))
	static, err := loadStatic()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range ansiCases {
		var got [][]string
		text, _ := json.Marshal(c.text)
		run(t, ctx, chromedp.Evaluate(fmt.Sprintf(`import(%q).then(m => m.segments(%s))`, static.url("ansi.js"), text), &got,
			func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
		var segments []segment
		for _, s := range got {
			segments = append(segments, segment{s[0], s[1]})
		}
		if !slices.Equal(segments, c.want) {
			t.Errorf("%q: got %q, want %q", c.text, segments, c.want)
		}
	}
}

func TestLiveUpdatesInBrowser(t *testing.T) {
	f := newFront(t)
	ctx, url := browser(t, f)
	run(t, ctx, chromedp.Navigate(url+"/runs/"+string(runNow)+"/jobs/"+string(jobLive)),
		until(`document.querySelector('.log-count')?.textContent === '5 lines …'`))
	f.change(func() {
		l := f.logs[jobLive]
		l.data = append(l.data, encode(sallyport.LogLine{Step: 2, Text: "a line that came later"})...)
	})
	run(t, ctx, until(`document.querySelector('.log').textContent.includes('a line that came later')`))
	f.change(func() { // the runner died, and another one begins anew
		f.jobs[runNow][2].Attempt = 2
		f.logs[jobLive].data = encode(sallyport.LogLine{Text: "the second attempt"})
	})
	run(t, ctx, until(`document.querySelector('.log-count')?.textContent === '1 lines …' && document.querySelector('.log').textContent.includes('the second attempt')`))
	f.change(func() {
		f.logs[jobLive].done = true
		j := &f.jobs[runNow][2]
		j.Status, j.Conclusion, j.FinishedAt = sallyport.StatusCompleted, sallyport.Failure, sampleNow
		j.Steps[1].Status, j.Steps[1].Outcome, j.Steps[1].Conclusion = sallyport.StatusCompleted, sallyport.Failure, sallyport.Failure
	})
	run(t, ctx, until(`document.querySelector('.job-head .badge').textContent.trim() === 'failed'`),
		until(`document.querySelector('[data-step="2"]').dataset.state === 'failed'`), until(`document.querySelector('.log-count').textContent === '1 lines'`))

	run(t, ctx, chromedp.Navigate(url+"/runs/"+string(runNow)), until(`document.querySelector('.page-head .badge').textContent.trim() === 'running'`))
	f.change(func() {
		f.runs[0].Status, f.runs[0].Conclusion, f.runs[0].Cause = sallyport.StatusCompleted, sallyport.Failure, "job test failed"
	})
	run(t, ctx, until(`document.querySelector('.page-head .badge').textContent.trim() === 'failed'`),
		until(`document.querySelector('.why-cause')?.textContent === 'job test failed'`), until(`document.getElementById('status').textContent === 'The run has ended.'`))
}

// TestWithoutScriptInBrowser signs in, reads a log and cancels a run in a browser that runs no script.
func TestWithoutScriptInBrowser(t *testing.T) {
	f := newFront(t)
	ctx, url := browser(t, f)
	var heading, log string
	run(t, ctx, emulation.SetScriptExecutionDisabled(true), network.ClearBrowserCookies(),
		chromedp.Navigate(url+"/runs"), chromedp.Text("h1", &heading))
	if heading != "Sign in" {
		t.Errorf("without a session the page says %q", heading)
	}
	run(t, ctx, chromedp.Navigate(url+"/login?token=once"), chromedp.Click(".door button"), chromedp.WaitVisible(".tiles"),
		chromedp.Navigate(url+"/runs/"+string(runFailed)+"/jobs/"+string(jobFailed)), chromedp.Text("#log", &log))
	if !strings.Contains(log, "got total 90.00, want 81.00") || !strings.Contains(log, "go test") {
		t.Errorf("the log reads %q", log)
	}
	shot(t, ctx, "job-noscript")
	run(t, ctx, chromedp.Navigate(url+"/runs/"+string(runNow)), chromedp.Click(".head-act button"), chromedp.WaitVisible(".note:not(.empty)"), chromedp.Text("#status", &heading))
	if !strings.HasPrefix(heading, "Cancelling.") || !slices.Contains(f.done(), "Cancel "+string(runNow)) {
		t.Errorf("after cancelling the page says %q, called %q", heading, f.done())
	}
}

// TestApproveByKeyboardInBrowser says yes on a phone, in the dark, by keyboard alone and
// without script.
func TestApproveByKeyboardInBrowser(t *testing.T) {
	f := newFront(t)
	ctx, url := browser(t, f)
	run(t, ctx, emulation.SetScriptExecutionDisabled(true), emulation.SetDeviceMetricsOverride(360, 740, 2, true),
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}),
		chromedp.Navigate(url+"/approvals"), chromedp.WaitVisible(".ask"))
	shot(t, ctx, "approvals-dark-phone")
	page := "/approvals/" + id[string]("4e00", 1)
	run(t, ctx, chromedp.Navigate(url+page), chromedp.WaitVisible(".decide"))
	shot(t, ctx, "approval-dark-phone")
	run(t, ctx, chromedp.Focus(`textarea[name="note"]`), chromedp.KeyEvent("fine"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible(".note:not(.empty)"))
	want := "Vote " + id[string]("4e00", 1) + " approve fine " + string(f.requests[1].Digest)
	if calls := f.done(); !slices.Contains(calls, want) {
		t.Errorf("the keys called %q, want %q", calls, want)
	}
}

// shot keeps a picture of the page when they are asked for.
func shot(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv(screenshots)
	if dir == "" {
		return
	}
	var png []byte
	run(t, ctx, chromedp.FullScreenshot(&png, 100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestScreenshots opens every page in a light and a dark scheme and at the width of
// a phone. It fails when a page is wider than its window.
func TestScreenshots(t *testing.T) {
	f := newFront(t)
	ctx, url := browser(t, f)
	looks := []struct {
		name, scheme string
		width        int64
		phone        bool
	}{{"light", "light", 1280, false}, {"dark", "dark", 1280, false}, {"phone", "light", 390, true}}
	for _, look := range looks {
		run(t, ctx, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: look.scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}),
			emulation.SetDeviceMetricsOverride(look.width, 800, 1, look.phone))
		for _, p := range append(pages[:len(pages):len(pages)], struct {
			name, path string
			want       []string
		}{"login", "/login", nil}, struct {
			name, path string
			want       []string
		}{"login-link", "/login?token=once", nil}) {
			run(t, ctx, chromedp.Navigate(url+p.path), settle())
			if strings.HasPrefix(p.name, "job") {
				run(t, ctx, until(`document.querySelectorAll('.log.live .ln').length > 0`))
			}
			if w := evaluate[int64](t, ctx, `document.documentElement.scrollWidth`); w > look.width {
				t.Errorf("%s at %d pixels is %d wide", p.name, look.width, w)
			}
			shot(t, ctx, p.name+"-"+look.name)
		}
	}
}
