package sandbox

import (
	"strings"
	"testing"

	"github.com/sallyport-ci/sallyport"
)

// TestTooManyPeers refuses a room in which more ports of others would answer than it has listeners for.
func TestTooManyPeers(t *testing.T) {
	t.Parallel()
	_, err := (&Sandbox{}).checkSpec(sallyport.RoomSpec{ID: "a", Peers: make([]sallyport.Peer, maxPeers+1)})
	if sallyport.ErrorCode(err) != sallyport.CodeInvalid || !strings.Contains(err.Error(), "65 ports of other rooms are too many: at most 64") {
		t.Errorf("got %v", err)
	}
}
