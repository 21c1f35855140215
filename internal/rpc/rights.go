package rpc

import (
	"context"

	"github.com/sallyport-ci/sallyport"
)

type rights struct{ c *Client }

func (s rights) Accounts(ctx context.Context) ([]sallyport.Account, error) {
	return list(ctx, s.c, ListAccounts, Nothing{})
}

func (s rights) AddAccount(ctx context.Context, a sallyport.Account) (sallyport.Account, error) {
	return do(ctx, s.c, AddAccount, AccountIn{Body: a})
}

func (s rights) RemoveAccount(ctx context.Context, id string) error {
	return tell(ctx, s.c, RemoveAccount, ByAccount{id})
}

func (s rights) LinkLogin(ctx context.Context, id, subject string) error {
	in := LinkLoginIn{ByAccount: ByAccount{id}}
	in.Body.Subject = subject
	return tell(ctx, s.c, LinkLogin, in)
}

func (s rights) AccessRules(ctx context.Context) (sallyport.AccessRules, error) {
	return do(ctx, s.c, ShowAccess, Nothing{})
}

func (s rights) WhoCan(ctx context.Context, action, resource string) ([]sallyport.Holder, error) {
	return list(ctx, s.c, WhoCan, WhoCanIn{Action: action, Resource: resource})
}

func (s rights) CompareRules(ctx context.Context, source string) (sallyport.AccessChange, error) {
	return do(ctx, s.c, CompareAccess, accessSource(source))
}

func (s rights) SetRules(ctx context.Context, source string) (sallyport.AccessChange, error) {
	return do(ctx, s.c, SetAccess, accessSource(source))
}

func accessSource(source string) (in AccessSourceIn) {
	in.Body.Source = source
	return in
}
