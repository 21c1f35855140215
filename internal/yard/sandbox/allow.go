package sandbox

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	sallyport "github.com/sallyport-ci/sallyport"
)

// userNamespacesAllowed reads the settings by which distributions forbid ordinary
// users namespaces, for a better word than EPERM. root is the host's file system.
func userNamespacesAllowed(root fs.FS) error {
	setting := func(name string) string {
		b, err := fs.ReadFile(root, name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	unavailable := func(message, mend string) error {
		return sallyport.Errorf(sallyport.CodeUnavailable, "%s", message).WithHint("%s", mend)
	}
	if setting("proc/sys/user/max_user_namespaces") == "0" {
		return unavailable("user namespaces are switched off on this host", "sysctl -w user.max_user_namespaces=15000, or run the runner as root")
	}
	if setting("proc/sys/kernel/unprivileged_userns_clone") == "0" {
		return unavailable("ordinary users may not make user namespaces on this host", "sysctl -w kernel.unprivileged_userns_clone=1, or run the runner as root")
	}
	profile, _, _ := strings.Cut(setting("proc/self/attr/current"), " ")
	if setting("proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" && (profile == "" || profile == "unconfined") {
		return unavailable("AppArmor keeps ordinary users from using user namespaces on this host",
			"install an AppArmor profile with 'userns,' for the sallyport binary, or run the runner as root; sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 lifts it for everybody")
	}
	return nil
}

// probe makes a user namespace with a mount and a network namespace, as a keeper
// has, and looks whether it is root there.
func (m userMaps) probe(exe string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	job, err := memFile(settleJob{})
	if err != nil {
		return err
	}
	defer job.Close()
	state, err := m.run(exe, unix.CLONE_NEWNS|unix.CLONE_NEWNET, null, job)
	if err != nil {
		return err
	}
	if !state.Success() {
		return (&sallyport.Error{Code: sallyport.CodeUnavailable, Message: "this user does not become root in a user namespace of its own", Err: errors.New(state.String())}).
			WithHint("run the runner as root, or look for a security module that restricts user namespaces")
	}
	return nil
}
