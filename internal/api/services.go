package api

import (
	"context"
	"time"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/rpc"
)

// services serves the calls of all services: one line of translation each.
func (s *server) services() {
	s.projects()
	s.runs()
	s.artifacts()
	s.gates()
	s.deployments()
	s.caches()
	s.doors()
	s.secrets()
	s.auditTrail()
	s.access()
	s.rights()
	s.approvals()
	s.stops()
	s.instance()
}

// project returns the id of a project that is named in a path.
func (s *server) project(ctx context.Context, in rpc.ByProject) (sallyport.ProjectID, error) {
	if isID(in.Project) {
		return sallyport.ProjectID(in.Project), nil
	}
	p, err := s.Services.Projects.Project(ctx, in.Project)
	return p.ID, err
}

// isID tells an id from a name.
func isID(s string) bool {
	return len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-'
}

// within makes a service call about a project.
func within[T any](ctx context.Context, s *server, in rpc.ByProject, f func(sallyport.ProjectID) (T, error)) (T, error) {
	p, err := s.project(ctx, in)
	if err != nil {
		var none T
		return none, err
	}
	return f(p)
}

// face admits another face of the installation to the calls that only a face
// has a use for. They speak for people whom it has authenticated, and some
// have no judge behind them: whoever may call them may say that anything happened.
func face(ctx context.Context) error {
	if p := principal(ctx); p.Admin || p.Kind == sallyport.System {
		return nil
	}
	return sallyport.Errorf(sallyport.CodeDenied, "only an administrator may do this")
}

func (s *server) projects() {
	svc := s.Services.Projects
	answer(s, rpc.CreateProject, func(ctx context.Context, in *rpc.CreateProjectIn) (sallyport.Project, error) {
		return svc.CreateProject(ctx, in.Body.Name, in.Body.DefaultBranch)
	})
	answer(s, rpc.GetProject, func(ctx context.Context, in *rpc.ByProject) (sallyport.Project, error) {
		return svc.Project(ctx, in.Project)
	})
	list(s, rpc.ListProjects, func(ctx context.Context, _ *rpc.Nothing) ([]sallyport.Project, error) {
		return svc.Projects(ctx)
	})
	obey(s, rpc.Pushing, func(ctx context.Context, in *rpc.UpdatesIn) error {
		if err := face(ctx); err != nil {
			return err
		}
		p, err := s.project(ctx, in.ByProject)
		if err != nil {
			return err
		}
		return svc.Pushing(ctx, p, in.Body.Updates)
	})
	list(s, rpc.Pushed, func(ctx context.Context, in *rpc.UpdatesIn) ([]sallyport.Push, error) {
		if err := face(ctx); err != nil {
			return nil, err
		}
		return within(ctx, s, in.ByProject, func(p sallyport.ProjectID) ([]sallyport.Push, error) {
			return svc.Pushed(ctx, p, in.Body.Updates)
		})
	})
	list(s, rpc.Deliver, func(ctx context.Context, in *rpc.DeliverIn) ([]sallyport.Run, error) {
		return within(ctx, s, in.ByProject, func(p sallyport.ProjectID) ([]sallyport.Run, error) {
			return svc.Deliver(ctx, p, in.Body)
		})
	})
	obey(s, rpc.Reading, func(ctx context.Context, in *rpc.ByProject) error {
		p, err := s.project(ctx, *in)
		if err != nil {
			return err
		}
		return svc.Reading(ctx, p)
	})
}

func page(p rpc.Paged) sallyport.Page { return sallyport.Page{Before: p.Before, Limit: p.Limit} }

func (s *server) runs() {
	svc := s.Services.Runs
	list(s, rpc.ListRuns, func(ctx context.Context, in *rpc.RunsIn) ([]sallyport.Run, error) {
		f := sallyport.RunFilter{Project: in.Project, Push: in.Push, Status: in.Status, Page: page(in.Paged)}
		if in.Project == "" {
			return svc.Runs(ctx, f)
		}
		return within(ctx, s, rpc.ByProject{Project: string(in.Project)}, func(p sallyport.ProjectID) ([]sallyport.Run, error) {
			f.Project = p
			return svc.Runs(ctx, f)
		})
	})
	answer(s, rpc.GetRun, func(ctx context.Context, in *rpc.ByRun) (rpc.RunAndJobs, error) {
		run, jobs, err := svc.Run(ctx, in.Run)
		return rpc.RunAndJobs{Run: run, Jobs: jobs}, err
	})
	answer(s, rpc.GetPlan, func(ctx context.Context, in *rpc.ByRun) (sallyport.Plan, error) {
		plan, err := svc.Plan(ctx, in.Run)
		if err != nil || plan == nil {
			return sallyport.Plan{}, err
		}
		return *plan, nil
	})
	answer(s, rpc.GetTrace, func(ctx context.Context, in *rpc.ByJob) (sallyport.Trace, error) { return svc.Trace(ctx, in.Job) })
	obey(s, rpc.CancelRun, func(ctx context.Context, in *rpc.ByRun) error { return svc.Cancel(ctx, in.Run) })
	list(s, rpc.Dispatch, func(ctx context.Context, in *rpc.DispatchIn) ([]sallyport.Run, error) {
		return within(ctx, s, in.ByProject, func(p sallyport.ProjectID) ([]sallyport.Run, error) {
			return svc.Dispatch(ctx, p, in.Body.Workflow, in.Body.Ref, in.Body.Inputs)
		})
	})
	answer(s, rpc.WaitRun, func(ctx context.Context, in *rpc.ByRun) (rpc.Change, error) {
		waiting, over, cancel := patience(ctx, rpc.MaxWait)
		defer cancel()
		err := svc.WaitChange(waiting, in.Run)
		if err != nil && over() {
			return rpc.Change{}, nil
		}
		return rpc.Change{Changed: err == nil}, err
	})
	s.log()
}

func (s *server) artifacts() {
	svc := s.Services.Artifacts
	list(s, rpc.ListArtifacts, func(ctx context.Context, in *rpc.ByRun) ([]sallyport.Artifact, error) {
		return svc.Artifacts(ctx, in.Run)
	})
	answer(s, rpc.GetArtifact, func(ctx context.Context, in *rpc.ByArtifact) (sallyport.Artifact, error) {
		return svc.Artifact(ctx, in.Artifact)
	})
	answer(s, rpc.FindArtifact, func(ctx context.Context, in *rpc.FindArtifactIn) (sallyport.Artifact, error) {
		return svc.FindArtifact(ctx, in.Run, in.Name)
	})
	list(s, rpc.ListStatements, func(ctx context.Context, in *rpc.ByDigest) ([]sallyport.Statement, error) {
		return within(ctx, s, in.ByProject, func(p sallyport.ProjectID) ([]sallyport.Statement, error) {
			return svc.Statements(ctx, p, in.Digest)
		})
	})
	list(s, rpc.Verify, func(ctx context.Context, in *rpc.ByDigest) ([]rpc.FullChecked, error) {
		found, err := within(ctx, s, in.ByProject, func(p sallyport.ProjectID) ([]sallyport.Checked, error) {
			return svc.Verify(ctx, p, in.Digest)
		})
		out := make([]rpc.FullChecked, len(found))
		for i, c := range found {
			out[i] = rpc.NewFullChecked(c)
		}
		return out, err
	})
	s.openArtifact()
	bytesOf(s, rpc.GetBundle, "application/vnd.dev.sigstore.bundle.v0.3+json", func(ctx context.Context, in *rpc.ByStatement) ([]byte, error) {
		return svc.Bundle(ctx, in.Statement)
	})
}

func (s *server) gates() {
	svc := s.Services.Gates
	full := func(v sallyport.Verdict, err error) (rpc.FullVerdict, error) { return rpc.NewFullVerdict(v), err }
	list(s, rpc.ListVerdicts, func(ctx context.Context, in *rpc.ProjectPageIn) ([]sallyport.Verdict, error) {
		return within(ctx, s, in.ByProject, func(p sallyport.ProjectID) ([]sallyport.Verdict, error) {
			return svc.Verdicts(ctx, p, page(in.Paged))
		})
	})
	answer(s, rpc.GetVerdict, func(ctx context.Context, in *rpc.ByVerdict) (rpc.FullVerdict, error) {
		return full(svc.Verdict(ctx, in.Verdict))
	})
	answer(s, rpc.Replay, func(ctx context.Context, in *rpc.ReplayIn) (rpc.FullVerdict, error) {
		return full(svc.Replay(ctx, in.Verdict, in.Body.Policy))
	})
	answer(s, rpc.Judge, func(ctx context.Context, in *rpc.ToEnvironmentIn) (rpc.FullVerdict, error) {
		return full(svc.Judge(ctx, in.Artifact, in.Body.Environment))
	})
}

func (s *server) deployments() {
	svc := s.Services.Deployments
	list(s, rpc.ListDeployments, func(ctx context.Context, in *rpc.DeploymentsIn) ([]sallyport.Deployment, error) {
		return within(ctx, s, in.ByProject, func(p sallyport.ProjectID) ([]sallyport.Deployment, error) {
			return svc.Deployments(ctx, p, in.Environment, page(in.Paged))
		})
	})
	answer(s, rpc.GetDeployment, func(ctx context.Context, in *rpc.ByDeployment) (sallyport.Deployment, error) {
		return svc.Deployment(ctx, in.Deployment)
	})
	list(s, rpc.ListEnvironments, func(ctx context.Context, in *rpc.ByProject) ([]sallyport.Environment, error) {
		return within(ctx, s, *in, func(p sallyport.ProjectID) ([]sallyport.Environment, error) {
			return svc.Environments(ctx, p)
		})
	})
	answer(s, rpc.Deploy, func(ctx context.Context, in *rpc.ToEnvironmentIn) (sallyport.Deployment, error) {
		return svc.Deploy(ctx, in.Artifact, in.Body.Environment)
	})
	answer(s, rpc.Rollback, func(ctx context.Context, in *rpc.RollbackIn) (sallyport.Deployment, error) {
		return within(ctx, s, in.ByProject, func(p sallyport.ProjectID) (sallyport.Deployment, error) {
			return svc.Rollback(ctx, p, in.Body.Environment, in.Body.Reason)
		})
	})
	answer(s, rpc.DeploymentHealth, func(ctx context.Context, in *rpc.ByDeployment) (rpc.HealthAndTraffic, error) {
		health, traffic, err := svc.Health(ctx, in.Deployment)
		return rpc.HealthAndTraffic{Health: health, Traffic: traffic}, err
	})
	bytesOf(s, rpc.GetOutput, "application/octet-stream", func(ctx context.Context, in *rpc.ByDeployment) ([]byte, error) {
		return svc.Output(ctx, in.Deployment)
	})
}

func (s *server) caches() {
	svc := s.Services.Caches
	list(s, rpc.ListCaches, func(ctx context.Context, in *rpc.ProjectPageIn) ([]sallyport.CacheEntry, error) {
		return within(ctx, s, in.ByProject, func(p sallyport.ProjectID) ([]sallyport.CacheEntry, error) {
			return svc.Caches(ctx, p, page(in.Paged))
		})
	})
	list(s, rpc.CacheUses, func(ctx context.Context, in *rpc.ByRun) ([]sallyport.CacheUse, error) {
		return svc.CacheUses(ctx, in.Run)
	})
	answer(s, rpc.DeleteCache, func(ctx context.Context, in *rpc.ByCache) (sallyport.CacheEntry, error) {
		return svc.DeleteCache(ctx, in.Cache)
	})
}

func (s *server) doors() {
	svc := s.Services.Doors
	list(s, rpc.ListDoors, func(ctx context.Context, in *rpc.ByRun) ([]sallyport.Door, error) {
		return svc.Doors(ctx, in.Run)
	})
	answer(s, rpc.ShowEgress, func(ctx context.Context, in *rpc.ByProject) (sallyport.EgressRules, error) {
		return within(ctx, s, *in, func(p sallyport.ProjectID) (sallyport.EgressRules, error) {
			return svc.EgressRules(ctx, p)
		})
	})
	answer(s, rpc.Learn, func(ctx context.Context, in *rpc.LearnIn) (sallyport.EgressProposal, error) {
		return within(ctx, s, in.ByProject, func(p sallyport.ProjectID) (sallyport.EgressProposal, error) {
			var file []byte
			if in.Body.File != nil {
				file = []byte(*in.Body.File) // not nil, empty as it may be
			}
			return svc.Learn(ctx, p, in.Body.Runs, file)
		})
	})
}

func (s *server) secrets() {
	svc := s.Services.Secrets
	list(s, rpc.ListSecrets, func(ctx context.Context, in *rpc.ByProject) ([]sallyport.SecretEntry, error) {
		return within(ctx, s, *in, func(p sallyport.ProjectID) ([]sallyport.SecretEntry, error) { return svc.Secrets(ctx, p) })
	})
	answer(s, rpc.SetSecret, func(ctx context.Context, in *rpc.SetSecretIn) (sallyport.SecretEntry, error) {
		return within(ctx, s, in.ByProject, func(p sallyport.ProjectID) (sallyport.SecretEntry, error) {
			return svc.SetSecret(ctx, p, in.Environment, in.Name, sallyport.NewSecret([]byte(in.Body.Value)))
		})
	})
	obey(s, rpc.DeleteSecret, func(ctx context.Context, in *rpc.BySecret) error {
		p, err := s.project(ctx, in.ByProject)
		if err != nil {
			return err
		}
		return svc.DeleteSecret(ctx, p, in.Environment, in.Name)
	})
	list(s, rpc.ListRotations, func(ctx context.Context, in *rpc.ByProject) ([]sallyport.RotationStatus, error) {
		return within(ctx, s, *in, func(p sallyport.ProjectID) ([]sallyport.RotationStatus, error) { return svc.Rotations(ctx, p) })
	})
	answer(s, rpc.SetRotation, func(ctx context.Context, in *rpc.SetRotationIn) (sallyport.RotationRule, error) {
		return within(ctx, s, in.ByProject, func(p sallyport.ProjectID) (sallyport.RotationRule, error) {
			return svc.SetRotation(ctx, p, in.Environment, in.Name, in.Body.Rule, sallyport.NewSecret([]byte(in.Body.Admin)))
		})
	})
	answer(s, rpc.Rotate, func(ctx context.Context, in *rpc.BySecret) (sallyport.Rotation, error) {
		return within(ctx, s, in.ByProject, func(p sallyport.ProjectID) (sallyport.Rotation, error) {
			return svc.Rotate(ctx, p, in.Environment, in.Name)
		})
	})
	answer(s, rpc.Leak, func(ctx context.Context, in *rpc.LeakIn) (sallyport.Incident, error) {
		return within(ctx, s, in.ByProject, func(p sallyport.ProjectID) (sallyport.Incident, error) {
			return svc.Leak(ctx, p, in.Environment, in.Name, in.Body.Where)
		})
	})
}

func (s *server) auditTrail() {
	svc := s.Services.Audit
	list(s, rpc.ListRecords, func(ctx context.Context, in *rpc.RecordsIn) ([]sallyport.AuditRecord, error) {
		return svc.Records(ctx, sallyport.AuditFilter(*in))
	})
	answer(s, rpc.VerifyAudit, func(ctx context.Context, _ *rpc.Nothing) (sallyport.AuditReport, error) {
		return svc.VerifyAudit(ctx)
	})
}

func (s *server) access() {
	svc := s.Services.Access
	answer(s, rpc.Authenticate, func(ctx context.Context, in *rpc.CredentialIn) (sallyport.Principal, error) {
		if err := face(ctx); err != nil {
			return sallyport.Principal{}, err
		}
		return svc.Authenticate(ctx, in.Body.Kind, in.Body.Value)
	})
	answer(s, rpc.Login, func(ctx context.Context, in *rpc.CredentialIn) (rpc.Session, error) {
		session, expires, err := svc.Login(ctx, in.Body.Value)
		return rpc.Session{Session: session, Expires: expires}, err
	})
	obey(s, rpc.Logout, func(ctx context.Context, in *rpc.CredentialIn) error { return svc.Logout(ctx, in.Body.Value) })
	answer(s, rpc.CreateToken, func(ctx context.Context, in *rpc.CreateTokenIn) (rpc.NewToken, error) {
		b := in.Body
		value, token, err := svc.CreateToken(ctx, b.Name, b.Kind, b.Principal, time.Duration(b.TTLSeconds)*time.Second)
		return rpc.NewToken{Value: value, Token: token}, err
	})
	list(s, rpc.ListTokens, func(ctx context.Context, _ *rpc.Nothing) ([]sallyport.Token, error) { return svc.Tokens(ctx) })
	obey(s, rpc.RevokeToken, func(ctx context.Context, in *rpc.ByToken) error { return svc.RevokeToken(ctx, in.Token) })
	obey(s, rpc.Denied, func(ctx context.Context, in *rpc.DeniedIn) error {
		if err := face(ctx); err != nil {
			return err
		}
		svc.Denied(ctx, in.Body.What, in.Body.Why)
		return nil
	})
}

func (s *server) rights() {
	svc := s.Services.Rights
	list(s, rpc.ListAccounts, func(ctx context.Context, _ *rpc.Nothing) ([]sallyport.Account, error) { return svc.Accounts(ctx) })
	answer(s, rpc.AddAccount, func(ctx context.Context, in *rpc.AccountIn) (sallyport.Account, error) {
		return svc.AddAccount(ctx, in.Body)
	})
	obey(s, rpc.RemoveAccount, func(ctx context.Context, in *rpc.ByAccount) error { return svc.RemoveAccount(ctx, in.ID) })
	obey(s, rpc.LinkLogin, func(ctx context.Context, in *rpc.LinkLoginIn) error {
		return svc.LinkLogin(ctx, in.ID, in.Body.Subject)
	})
	answer(s, rpc.ShowAccess, func(ctx context.Context, _ *rpc.Nothing) (sallyport.AccessRules, error) { return svc.AccessRules(ctx) })
	list(s, rpc.WhoCan, func(ctx context.Context, in *rpc.WhoCanIn) ([]sallyport.Holder, error) {
		return svc.WhoCan(ctx, in.Action, in.Resource)
	})
	answer(s, rpc.CompareAccess, func(ctx context.Context, in *rpc.AccessSourceIn) (sallyport.AccessChange, error) {
		return svc.CompareRules(ctx, in.Body.Source)
	})
	answer(s, rpc.SetAccess, func(ctx context.Context, in *rpc.AccessSourceIn) (sallyport.AccessChange, error) {
		return svc.SetRules(ctx, in.Body.Source)
	})
}

func (s *server) approvals() {
	svc := s.Services.Approvals
	answer(s, rpc.AskAccess, func(ctx context.Context, in *rpc.AskIn) (sallyport.RequestStatus, error) {
		return svc.Ask(ctx, in.Body)
	})
	list(s, rpc.ListRequests, func(ctx context.Context, in *rpc.RequestsIn) ([]sallyport.RequestStatus, error) {
		if in.Project == "" {
			return svc.Requests(ctx, "", in.Open, page(in.Paged))
		}
		return within(ctx, s, rpc.ByProject{Project: string(in.Project)}, func(p sallyport.ProjectID) ([]sallyport.RequestStatus, error) {
			return svc.Requests(ctx, p, in.Open, page(in.Paged))
		})
	})
	answer(s, rpc.ShowRequest, func(ctx context.Context, in *rpc.ByRequest) (sallyport.RequestStatus, error) {
		return svc.Request(ctx, in.Request)
	})
	answer(s, rpc.VoteOn, func(ctx context.Context, in *rpc.VoteIn) (sallyport.RequestStatus, error) {
		return svc.Vote(ctx, in.Request, in.Body)
	})
	obey(s, rpc.WithdrawRequest, func(ctx context.Context, in *rpc.ByRequest) error { return svc.Withdraw(ctx, in.Request) })
	answer(s, rpc.ActivateGrant, func(ctx context.Context, in *rpc.ByRequest) (sallyport.GrantStatus, error) {
		return svc.Activate(ctx, in.Request)
	})
	list(s, rpc.ListGrants, func(ctx context.Context, in *rpc.Paged) ([]sallyport.GrantStatus, error) {
		return svc.Grants(ctx, page(*in))
	})
	obey(s, rpc.RevokeGrant, func(ctx context.Context, in *rpc.RevokeIn) error { return svc.Revoke(ctx, in.Grant, in.Body.Why) })
}

func (s *server) stops() {
	svc := s.Services.Stops
	answer(s, rpc.ThrowStop, func(ctx context.Context, in *rpc.StopIn) (sallyport.StopReport, error) {
		return svc.Stop(ctx, in.Body.Kind, in.Body.Name, in.Body.Why)
	})
	answer(s, rpc.LiftStop, func(ctx context.Context, in *rpc.StopIn) (sallyport.Stop, error) {
		return svc.Lift(ctx, in.Body.Kind, in.Body.Name, in.Body.Why)
	})
	list(s, rpc.ListStops, func(ctx context.Context, _ *rpc.Nothing) ([]sallyport.Stop, error) { return svc.Stops(ctx) })
}

func (s *server) instance() {
	svc := s.Services.Instance
	answer(s, rpc.Identity, func(ctx context.Context, in *rpc.IdentityIn) (rpc.BuildIdentity, error) {
		issuer, identity, err := svc.Identity(ctx, in.Project, in.Workflow, in.Ref)
		return rpc.BuildIdentity{Issuer: issuer, Identity: identity}, err
	})
	answer(s, rpc.InstanceHealth, func(ctx context.Context, _ *rpc.Nothing) (sallyport.InstanceHealth, error) {
		return svc.Health(ctx)
	})
	answer(s, rpc.ShowTokenIssuer, func(ctx context.Context, _ *rpc.Nothing) (rpc.TokenIssuer, error) {
		issuer, keys, err := svc.TokenIssuer(ctx)
		return rpc.TokenIssuer{Issuer: issuer, Keys: keys}, err
	})
	keys := s.Services.Issuers
	answer(s, rpc.IssuerStatus, func(ctx context.Context, _ *rpc.Nothing) (sallyport.IssuerStatus, error) {
		return keys.IssuerStatus(ctx)
	})
	answer(s, rpc.RotateIssuer, func(ctx context.Context, in *rpc.RotateIssuerIn) (sallyport.IssuerStatus, error) {
		return keys.RotateIssuer(ctx, in.Body)
	})
	answer(s, rpc.IssuedTokens, func(ctx context.Context, in *rpc.ByJob) (rpc.List[sallyport.IssuedToken], error) {
		list, err := keys.IssuedTokens(ctx, in.Job)
		return rpc.List[sallyport.IssuedToken]{Items: list}, err
	})
	bytesOf(s, rpc.TrustRoot, "application/json", func(ctx context.Context, _ *rpc.Nothing) ([]byte, error) {
		return svc.TrustRoot(ctx)
	})
}
