package web

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// TestShots takes the pictures of the documentation from an installation that
// runs elsewhere. scripts/shots.sh starts one, plays the demo on it and names the
// one-time link and the directory for the pictures.
func TestShots(t *testing.T) {
	link, dir := os.Getenv("SALLYPORT_SHOTS_LINK"), os.Getenv("SALLYPORT_SHOTS_DIR")
	if link == "" || dir == "" {
		t.Skip("SALLYPORT_SHOTS_LINK and SALLYPORT_SHOTS_DIR are not set: see scripts/shots.sh")
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-sync", true),
		chromedp.WindowSize(1200, 860), chromedp.WSURLReadTimeout(60*time.Second))
	alloc, cancel := chromedp.NewExecAllocator(context.Background(), opts...)
	defer cancel()
	ctx, cancel := chromedp.NewContext(alloc, chromedp.WithErrorf(func(string, ...any) {}))
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()

	run(t, ctx, chromedp.Navigate(link), settle(), chromedp.Submit(`form[action="/login"]`), until(`location.pathname === "/"`))
	base := evaluate[string](t, ctx, `location.origin`)
	// follow goes to the last link of the page that leads below a path: lists are newest first.
	follow := func(page, below string) string {
		run(t, ctx, chromedp.Navigate(page), settle())
		href := evaluate[string](t, ctx, `[...document.querySelectorAll('main a[href^="`+below+`"]')].map(a => a.href).filter(h => h.split('/').length === 5).pop() ?? ""`)
		if href == "" {
			t.Fatalf("%s has no link below %s", page, below)
		}
		return href
	}
	first := follow(base+"/runs", "/runs/")
	for _, page := range []struct{ name, url string }{
		{"run", first},
		{"artifact", follow(first, "/artifacts/")},
		{"deployments", base + "/deployments"},
		{"audit", base + "/audit"},
	} {
		for _, scheme := range []string{"light", "dark"} {
			var png []byte
			run(t, ctx,
				emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}),
				chromedp.Navigate(page.url), settle(), chromedp.CaptureScreenshot(&png))
			if err := os.WriteFile(filepath.Join(dir, page.name+"-"+scheme+".png"), png, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
