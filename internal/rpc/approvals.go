package rpc

import (
	"context"

	"github.com/sallyport-ci/sallyport"
)

type approvals struct{ c *Client }

func (s approvals) Ask(ctx context.Context, a sallyport.AccessAsk) (sallyport.RequestStatus, error) {
	return do(ctx, s.c, AskAccess, AskIn{Body: a})
}

func (s approvals) Requests(ctx context.Context, p sallyport.ProjectID, open bool, page sallyport.Page) ([]sallyport.RequestStatus, error) {
	return list(ctx, s.c, ListRequests, RequestsIn{Project: p, Open: open, Paged: paged(page)})
}

func (s approvals) Request(ctx context.Context, id sallyport.RequestID) (sallyport.RequestStatus, error) {
	return do(ctx, s.c, ShowRequest, ByRequest{id})
}

func (s approvals) Vote(ctx context.Context, id sallyport.RequestID, v sallyport.Vote) (sallyport.RequestStatus, error) {
	return do(ctx, s.c, VoteOn, VoteIn{ByRequest{id}, v})
}

func (s approvals) Withdraw(ctx context.Context, id sallyport.RequestID) error {
	return tell(ctx, s.c, WithdrawRequest, ByRequest{id})
}

func (s approvals) Activate(ctx context.Context, id sallyport.RequestID) (sallyport.GrantStatus, error) {
	return do(ctx, s.c, ActivateGrant, ByRequest{id})
}

func (s approvals) Grants(ctx context.Context, page sallyport.Page) ([]sallyport.GrantStatus, error) {
	return list(ctx, s.c, ListGrants, paged(page))
}

func (s approvals) Revoke(ctx context.Context, id sallyport.GrantID, why string) error {
	in := RevokeIn{ByGrant: ByGrant{id}}
	in.Body.Why = why
	return tell(ctx, s.c, RevokeGrant, in)
}
