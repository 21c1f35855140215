package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/rpc"
)

type (
	localKey struct{} // sallyport.Principal of who came over a unix socket
	peerKey  struct{} // peer of the connection
)

type peer struct {
	uid int
	err error
}

// PeerContext is for http.Server.ConnContext: it keeps who is at the other end
// of a unix socket (SO_PEERCRED, unix(7)).
func PeerContext(ctx context.Context, conn net.Conn) context.Context {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	p := peer{uid: -1}
	raw, err := uc.SyscallConn()
	if err == nil {
		err = errors.Join(raw.Control(func(fd uintptr) {
			var cred *unix.Ucred
			if cred, p.err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); p.err == nil {
				p.uid = int(cred.Uid)
			}
		}), p.err)
	}
	p.err = err
	return context.WithValue(ctx, peerKey{}, p)
}

// WithOperator lets the user who runs this process, and root, act as p without a
// token. The server must use PeerContext and listen on a unix socket alone.
func WithOperator(h http.Handler, p sallyport.Principal) http.Handler {
	return local(h, p, func(string) bool { return true })
}

// WithRunner is WithOperator for the socket of this host's runner, at which
// nothing but the runners' endpoint is served.
func WithRunner(h http.Handler, p sallyport.Principal) http.Handler {
	return local(h, p, func(path string) bool { return strings.HasPrefix(path, rpc.YardPrefix+"/") })
}

func local(h http.Handler, p sallyport.Principal, serves func(path string) bool) http.Handler {
	self := os.Geteuid()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, ok := r.Context().Value(peerKey{}).(peer)
		if !ok || at.err != nil || at.uid != 0 && at.uid != self {
			write(w, rpc.NewProblem(sallyport.Errorf(sallyport.CodeDenied, "this socket is for the user who runs Sallyport").
				WithHint("run the command as that user, or give an address and a token"), http.StatusForbidden))
			return
		}
		if !serves(r.URL.Path) {
			write(w, rpc.NewProblem(sallyport.Errorf(sallyport.CodeNotFound, "this socket serves runners alone"), http.StatusNotFound))
			return
		}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), localKey{}, p)))
	})
}
