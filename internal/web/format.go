package web

import (
	"fmt"
	"strings"
	"time"

	"github.com/sallyport-ci/sallyport"
)

// badge is a state in words, with a tone that chooses colour and icon: the
// words alone say it all.
type badge struct {
	Tone string // ok, bad, busy, wait, off, warn
	Text string
}

// badgeOf returns the badge of a noun with a state.
func badgeOf(v any) (badge, error) {
	switch v := v.(type) {
	case sallyport.Run:
		return progressBadge(v.Status, v.Conclusion), nil
	case sallyport.Job:
		b := progressBadge(v.Status, v.Conclusion)
		if v.Tolerated && v.Conclusion == sallyport.Failure {
			b = badge{"warn", "failed, tolerated"}
		}
		if v.AwaitsApproval() {
			b = badge{"wait", "waits for approval"}
		}
		return b, nil
	case sallyport.Step:
		return progressBadge(v.Status, v.Conclusion), nil
	case sallyport.DeploymentState:
		return deploymentBadge(v), nil
	case sallyport.Decision:
		return decisionBadge(v), nil
	case sallyport.RequestState:
		return requestBadge(v), nil
	case sallyport.GrantState:
		return grantBadge(v), nil
	default:
		return badge{}, fmt.Errorf("no badge for %T", v)
	}
}

func toneOf(v any) (string, error) {
	b, err := badgeOf(v)
	return b.Tone, err
}

func progressBadge(s sallyport.Status, c sallyport.Conclusion) badge {
	switch s {
	case sallyport.StatusWaiting:
		return badge{"wait", "waiting"}
	case sallyport.StatusQueued:
		return badge{"wait", "queued"}
	case sallyport.StatusInProgress:
		return badge{"busy", "running"}
	case sallyport.StatusCollecting:
		return badge{"busy", "collecting evidence"}
	}
	switch c {
	case sallyport.Success:
		return badge{"ok", "passed"}
	case sallyport.Failure:
		return badge{"bad", "failed"}
	case sallyport.Cancelled:
		return badge{"off", "cancelled"}
	case sallyport.Skipped:
		return badge{"off", "skipped"}
	default:
		return badge{"warn", "unknown"}
	}
}

func deploymentBadge(s sallyport.DeploymentState) badge {
	switch s {
	case sallyport.DeployWaiting:
		return badge{"wait", "waits for approval"}
	case sallyport.DeployPending:
		return badge{"wait", "pending"}
	case sallyport.DeployApplying:
		return badge{"busy", "starting"}
	case sallyport.DeployWatching:
		return badge{"busy", "on trial"}
	case sallyport.DeployLive:
		return badge{"ok", "live"}
	case sallyport.DeployRefused:
		return badge{"bad", "refused"}
	case sallyport.DeployFailed:
		return badge{"bad", "failed"}
	case sallyport.DeployRolledBack:
		return badge{"warn", "rolled back"}
	case sallyport.DeploySuperseded:
		return badge{"off", "superseded"}
	default:
		return badge{"warn", "unknown"}
	}
}

func decisionBadge(d sallyport.Decision) badge {
	switch d {
	case sallyport.Allow:
		return badge{"ok", "allowed"}
	case sallyport.Ask:
		return badge{"wait", "needs a yes"}
	default: // what cannot be judged is denied
		return badge{"bad", "denied"}
	}
}

// stamp is a point in time for people and for <time>.
type stamp struct {
	Zero bool
	ISO  string
	Full string
	Ago  string
}

func (s *server) stamp(t time.Time) stamp {
	if t.IsZero() {
		return stamp{Zero: true}
	}
	t = t.UTC()
	return stamp{ISO: t.Format(time.RFC3339Nano), Full: t.Format("2006-01-02 15:04:05 UTC"), Ago: formatAgo(s.now().Sub(t))}
}

// span is a duration; Since is set (Unix milliseconds) while it goes on.
type span struct {
	Zero  bool
	Text  string
	Since int64
}

func (s *server) span(from, to time.Time) span {
	switch {
	case from.IsZero():
		return span{Zero: true}
	case to.IsZero():
		return span{Text: formatDuration(s.now().Sub(from)), Since: from.UnixMilli()}
	default:
		return span{Text: formatDuration(to.Sub(from))}
	}
}

func formatAgo(d time.Duration) string {
	switch {
	case d < 0:
		return "in " + formatDuration(-d)
	case d < 10*time.Second:
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd ago", int(d.Hours()/24))
	}
}

// formatDuration shows the two largest units, and milliseconds below a second.
func formatDuration(d time.Duration) string {
	switch d = max(d, 0); {
	case d == 0:
		return "0s"
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm %02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh %02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd %dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

func formatBytes(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n)/1024, "KMGTPE"
	for f >= 1024 && len(units) > 1 {
		f, units = f/1024, units[1:]
	}
	return fmt.Sprintf("%.1f %ciB", f, units[0])
}

// shortCommit returns the first characters of a commit id, by runes: it may be hostile.
func shortCommit(c string) string {
	r := []rune(c)
	return string(r[:min(len(r), 9)])
}

func shortRef(ref string) string {
	for _, prefix := range []string{"refs/heads/", "refs/tags/"} {
		if name, ok := strings.CutPrefix(ref, prefix); ok {
			return name
		}
	}
	return ref
}

func plural(n int, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}

// predicateName says in a few words what a statement claims.
func predicateName(t string) string {
	switch t {
	case sallyport.PredicateProvenance:
		return "SLSA provenance"
	case sallyport.PredicateTrace:
		return "Runtime trace"
	case sallyport.PredicateVSA:
		return "Verification summary"
	case sallyport.PredicatePush:
		return "Push"
	case sallyport.PredicatePlan:
		return "Plan"
	case sallyport.PredicateDeployment:
		return "Deployment"
	case sallyport.PredicateHealth:
		return "Health"
	default:
		return t
	}
}
