package rpc

import (
	"encoding/json"
	"net/http"

	"github.com/sallyport-ci/sallyport"
)

// The arguments of calls. A field's tag says where it travels; Body is JSON.
type (
	// Nothing is the In of a call without arguments.
	Nothing struct{}

	ByProject struct {
		Project string `path:"project" maxLength:"64" doc:"Name or id of the project"`
	}
	ByRun struct {
		Run sallyport.RunID `path:"run" maxLength:"36"`
	}
	ByJob struct {
		Job sallyport.JobID `path:"job" maxLength:"36"`
	}
	ByArtifact struct {
		Artifact sallyport.ArtifactID `path:"artifact" maxLength:"36"`
	}
	ByStatement struct {
		Statement sallyport.StatementID `path:"statement" maxLength:"36"`
	}
	ByVerdict struct {
		Verdict sallyport.VerdictID `path:"verdict" maxLength:"36"`
	}
	ByDeployment struct {
		Deployment sallyport.DeploymentID `path:"deployment" maxLength:"36"`
	}
	ByCache struct {
		Cache sallyport.CacheID `path:"cache" maxLength:"36"`
	}
	BySecret struct {
		ByProject
		Name        string `path:"name" maxLength:"128"`
		Environment string `query:"environment" maxLength:"255" doc:"Whose jobs alone may use it; empty: all of the project"`
	}
	SetSecretIn struct {
		BySecret
		Body struct {
			Value string `json:"value" doc:"At most 48 KiB"`
		}
	}
	LeakIn struct {
		BySecret
		Body struct {
			Where string `json:"where,omitempty" maxLength:"4096" doc:"Where the value was seen"`
		}
	}
	SetRotationIn struct {
		BySecret
		Body struct {
			Rule  sallyport.RotationRule `json:"rule" doc:"What it does not say is set here"`
			Admin string                 `json:"admin,omitempty" doc:"The credential by which the target lets others be changed; at most 48 KiB"`
		}
	}
	ByToken struct {
		Token sallyport.TokenID `path:"token" maxLength:"36"`
	}
	ByDigest struct {
		ByProject
		Digest sallyport.Digest `query:"digest" required:"true" maxLength:"80" doc:"sha256:…"`
	}
	Paged struct {
		Before string `query:"before" maxLength:"64" doc:"Go on below this id"`
		Limit  int    `query:"limit" minimum:"0" maximum:"200" doc:"At most so many; 0 means 50"`
	}

	CreateProjectIn struct {
		Body struct {
			Name          string `json:"name" maxLength:"64"`
			DefaultBranch string `json:"default_branch" maxLength:"256"`
		}
	}
	UpdatesIn struct {
		ByProject
		Body struct {
			Updates []sallyport.RefUpdate `json:"updates" maxItems:"2000"`
		}
	}
	RunsIn struct {
		Project sallyport.ProjectID `query:"project" maxLength:"64" doc:"Name or id of the project"`
		Push    sallyport.PushID    `query:"push" maxLength:"36"`
		Status  sallyport.Status    `query:"status" maxLength:"32"`
		Paged
	}
	LogIn struct {
		Job    sallyport.JobID `path:"job" maxLength:"36"`
		Offset int64           `query:"offset" minimum:"0" doc:"Byte of the encoded log to read from"`
		Max    int             `query:"max" minimum:"0" maximum:"4194304" doc:"At most so many bytes; 0 means 1 MiB"`
		Wait   int64           `query:"wait_ms" minimum:"0" maximum:"50000" doc:"How long to wait for more, in milliseconds"`
	}
	DispatchIn struct {
		ByProject
		Body struct {
			Workflow string          `json:"workflow" maxLength:"512"`
			Ref      string          `json:"ref" maxLength:"512"`
			Inputs   json.RawMessage `json:"inputs,omitempty" doc:"A JSON object"`
		}
	}
	DeliverIn struct {
		ByProject
		Body sallyport.Delivery
	}
	FindArtifactIn struct {
		ByRun
		Name string `query:"name" required:"true" maxLength:"256"`
	}
	ReplayIn struct {
		ByVerdict
		Body struct {
			Policy string `json:"policy,omitempty" doc:"The policy's source; empty for the one it was decided with"`
		}
	}
	ToEnvironmentIn struct {
		ByArtifact
		Body struct {
			Environment string `json:"environment" maxLength:"64"`
		}
	}
	ProjectPageIn struct {
		ByProject
		Paged
	}
	DeploymentsIn struct {
		ByProject
		Environment string `query:"environment" maxLength:"64"`
		Paged
	}
	RollbackIn struct {
		ByProject
		Body struct {
			Environment string `json:"environment" maxLength:"64"`
			Reason      string `json:"reason" maxLength:"1024"`
		}
	}
	LearnIn struct {
		ByProject
		Body struct {
			Runs int     `json:"runs" minimum:"1" maximum:"200"`
			File *string `json:"file,omitempty" maxLength:"131072" doc:"The rules file to add to; absent for the protected branch's"`
		}
	}
	RecordsIn struct {
		Actor  string `query:"actor" maxLength:"256"`
		Action string `query:"action" maxLength:"256" doc:"Beginning of the action"`
		Object string `query:"object" maxLength:"256"`
		Before int64  `query:"before" minimum:"0" doc:"Go on below this sequence number"`
		Limit  int    `query:"limit" minimum:"0" maximum:"200"`
	}
	CredentialIn struct {
		Body struct {
			Kind  string `json:"kind,omitempty" maxLength:"32"`
			Value string `json:"value" maxLength:"512"`
		}
	}
	CreateTokenIn struct {
		Body struct {
			Name       string              `json:"name" maxLength:"128"`
			Kind       string              `json:"kind" maxLength:"32"`
			Principal  sallyport.Principal `json:"principal"`
			TTLSeconds int64               `json:"ttl_seconds" minimum:"1"`
		}
	}
	AccountIn struct {
		Body sallyport.Account
	}
	ByAccount struct {
		ID string `query:"id" required:"true" maxLength:"100" doc:"As it is listed: kind/name"`
	}
	LinkLoginIn struct {
		ByAccount
		Body struct {
			Subject string `json:"subject" maxLength:"255" doc:"As the provider's tokens name the person; empty for nobody"`
		}
	}
	WhoCanIn struct {
		Action   string `query:"action" required:"true" maxLength:"64"`
		Resource string `query:"resource" required:"true" maxLength:"1000" doc:"Type::\"id\""`
	}
	AccessSourceIn struct {
		Body struct {
			Source string `json:"source" doc:"Policies in Cedar"`
		}
	}
	AskIn struct {
		Body sallyport.AccessAsk
	}
	ByRequest struct {
		Request sallyport.RequestID `path:"request" maxLength:"36"`
	}
	RequestsIn struct {
		Project sallyport.ProjectID `query:"project" maxLength:"64" doc:"Name or id of the project"`
		Open    bool                `query:"open" doc:"Those alone of which something may still come"`
		Paged
	}
	VoteIn struct {
		ByRequest
		Body sallyport.Vote
	}
	ByGrant struct {
		Grant sallyport.GrantID `path:"grant" maxLength:"36"`
	}
	RevokeIn struct {
		ByGrant
		Body struct {
			Why string `json:"why,omitempty" maxLength:"500"`
		}
	}
	StopIn struct {
		Body struct {
			Kind sallyport.StopKind `json:"kind" maxLength:"20"`
			Name string             `json:"name" maxLength:"400"`
			Why  string             `json:"why,omitempty" maxLength:"500"`
		}
	}
	RotateIssuerIn struct {
		Body sallyport.RotateIssuer
	}
	DeniedIn struct {
		Body struct {
			What string `json:"what" maxLength:"256"`
			Why  string `json:"why" maxLength:"1024"`
		}
	}
	IdentityIn struct {
		Project  string `query:"project" required:"true" maxLength:"64"`
		Workflow string `query:"workflow" required:"true" maxLength:"512"`
		Ref      string `query:"ref" required:"true" maxLength:"512"`
	}
)

// The services' calls, in the order of the interfaces.
var (
	CreateProject = post[CreateProjectIn, sallyport.Project]("create-project", "/projects", "Create a project and its repository")
	GetProject    = get[ByProject, sallyport.Project]("get-project", "/projects/{project}", "Find a project")
	ListProjects  = get[Nothing, List[sallyport.Project]]("list-projects", "/projects", "List the projects")
	Pushing       = post[UpdatesIn, None]("judge-push", "/projects/{project}/pushing", "Judge ref updates before git carries them out")
	Pushed        = post[UpdatesIn, List[sallyport.Push]]("record-push", "/projects/{project}/pushed", "Record ref updates that git carried out")
	Reading       = post[ByProject, None]("judge-fetch", "/projects/{project}/reading", "Judge a fetch of the repository")
	Deliver       = post[DeliverIn, List[sallyport.Run]]("deliver-event", "/projects/{project}/events", "Take in an event of a forge and start its workflows")

	ListRuns  = get[RunsIn, List[sallyport.Run]]("list-runs", "/runs", "List runs")
	GetRun    = get[ByRun, RunAndJobs]("get-run", "/runs/{run}", "Show a run and its jobs")
	GetPlan   = get[ByRun, sallyport.Plan]("get-plan", "/runs/{run}/plan", "Show the plan of a run")
	GetTrace  = get[ByJob, sallyport.Trace]("get-trace", "/jobs/{job}/trace", "Show what was seen of a job from outside its room")
	CancelRun = post[ByRun, None]("cancel-run", "/runs/{run}/cancel", "Cancel a run; a second time also what runs always")
	Dispatch  = post[DispatchIn, List[sallyport.Run]]("dispatch", "/projects/{project}/dispatches", "Start a workflow by hand")
	WaitRun   = get[ByRun, Change]("wait-run", "/runs/{run}/wait", "Wait until something about a run changes, at most 50 s")

	ListArtifacts  = get[ByRun, List[sallyport.Artifact]]("list-artifacts", "/runs/{run}/artifacts", "List the artifacts of a run")
	GetArtifact    = get[ByArtifact, sallyport.Artifact]("get-artifact", "/artifacts/{artifact}", "Show an artifact")
	FindArtifact   = get[FindArtifactIn, sallyport.Artifact]("find-artifact", "/runs/{run}/artifact", "Find an artifact of a run by name")
	ListStatements = get[ByDigest, List[sallyport.Statement]]("list-statements", "/projects/{project}/statements", "List the signed claims about a digest")
	Verify         = get[ByDigest, List[FullChecked]]("verify", "/projects/{project}/verification", "Verify every signed claim about a digest now")

	ListVerdicts = get[ProjectPageIn, List[sallyport.Verdict]]("list-verdicts", "/projects/{project}/verdicts", "List verdicts")
	GetVerdict   = get[ByVerdict, FullVerdict]("get-verdict", "/verdicts/{verdict}", "Show a verdict with its policy and input")
	Replay       = post[ReplayIn, FullVerdict]("replay-verdict", "/verdicts/{verdict}/replay", "Decide again from the kept inputs")
	Judge        = post[ToEnvironmentIn, FullVerdict]("judge-artifact", "/artifacts/{artifact}/judge", "Decide whether an artifact may be deployed")

	ListDeployments  = get[DeploymentsIn, List[sallyport.Deployment]]("list-deployments", "/projects/{project}/deployments", "List deployments")
	GetDeployment    = get[ByDeployment, sallyport.Deployment]("get-deployment", "/deployments/{deployment}", "Show a deployment")
	ListEnvironments = get[ByProject, List[sallyport.Environment]]("list-environments", "/projects/{project}/environments", "List the environments of a project")
	Deploy           = post[ToEnvironmentIn, sallyport.Deployment]("deploy", "/artifacts/{artifact}/deploy", "Deploy an artifact through the gate")
	Rollback         = post[RollbackIn, sallyport.Deployment]("rollback", "/projects/{project}/rollback", "Deploy the last healthy release before the live one")
	DeploymentHealth = get[ByDeployment, HealthAndTraffic]("deployment-health", "/deployments/{deployment}/health", "Show the health and the traffic of a deployment")

	ListCaches  = get[ProjectPageIn, List[sallyport.CacheEntry]]("list-caches", "/projects/{project}/caches", "List the caches of a project")
	CacheUses   = get[ByRun, List[sallyport.CacheUse]]("list-cache-uses", "/runs/{run}/caches", "List what the jobs of a run did with caches")
	DeleteCache = Call[ByCache, sallyport.CacheEntry]{ID: "delete-cache", Method: http.MethodDelete, Path: Prefix + "/caches/{cache}", Summary: "Delete a cache entry"}

	ListDoors  = get[ByRun, List[sallyport.Door]]("list-doors", "/runs/{run}/doors", "Show what passed the doors of a run's jobs")
	ShowEgress = get[ByProject, sallyport.EgressRules]("show-egress", "/projects/{project}/egress", "Show what jobs of a project may reach")
	Learn      = Call[LearnIn, sallyport.EgressProposal]{ID: "learn-egress", Method: http.MethodPost, Path: Prefix + "/projects/{project}/egress/learn", Summary: "Propose rules for what the last runs asked for", Repeatable: true}

	ListSecrets  = get[ByProject, List[sallyport.SecretEntry]]("list-secrets", "/projects/{project}/secrets", "List the secrets of a project, without values")
	SetSecret    = Call[SetSecretIn, sallyport.SecretEntry]{ID: "set-secret", Method: http.MethodPut, Path: Prefix + "/projects/{project}/secrets/{name}", Summary: "Keep a secret for jobs; its value cannot be read again"}
	DeleteSecret = Call[BySecret, None]{ID: "delete-secret", Method: http.MethodDelete, Path: Prefix + "/projects/{project}/secrets/{name}", Summary: "Delete a secret"}

	ListRotations = get[ByProject, List[sallyport.RotationStatus]]("list-rotations", "/projects/{project}/rotations", "Tell how the secrets of a project are rotated")
	SetRotation   = Call[SetRotationIn, sallyport.RotationRule]{ID: "set-rotation", Method: http.MethodPut, Path: Prefix + "/projects/{project}/secrets/{name}/rotation", Summary: "Have a secret rotated by a rule, or no more"}
	Rotate        = post[BySecret, sallyport.Rotation]("rotate-secret", "/projects/{project}/secrets/{name}/rotate", "Rotate a secret now")
	Leak          = post[LeakIn, sallyport.Incident]("leak-secret", "/projects/{project}/secrets/{name}/leak", "Stop a secret that leaked, replace it and tell who had it")

	ListRecords = get[RecordsIn, List[sallyport.AuditRecord]]("list-audit-records", "/audit", "List audit records")
	VerifyAudit = post[Nothing, sallyport.AuditReport]("verify-audit", "/audit/verify", "Compare the audit trail with its log")

	Authenticate = post[CredentialIn, sallyport.Principal]("authenticate", "/access/authenticate", "Find whose a token is")
	Login        = post[CredentialIn, Session]("login", "/access/login", "Burn a login token for a session")
	Logout       = post[CredentialIn, None]("logout", "/access/logout", "End a session")
	CreateToken  = post[CreateTokenIn, NewToken]("create-token", "/tokens", "Create a token")
	ListTokens   = get[Nothing, List[sallyport.Token]]("list-tokens", "/tokens", "List tokens")
	RevokeToken  = Call[ByToken, None]{ID: "revoke-token", Method: http.MethodDelete, Path: Prefix + "/tokens/{token}", Summary: "Revoke a token"}
	Denied       = post[DeniedIn, None]("record-denial", "/access/denials", "Record a request that a face refused")

	ListAccounts  = get[Nothing, List[sallyport.Account]]("list-accounts", "/accounts", "List people, bots and agents")
	AddAccount    = post[AccountIn, sallyport.Account]("add-account", "/accounts", "Add a person, a bot or an agent")
	RemoveAccount = Call[ByAccount, None]{ID: "remove-account", Method: http.MethodDelete, Path: Prefix + "/accounts", Summary: "Remove an account, its tokens and sessions"}
	LinkLogin     = post[LinkLoginIn, None]("link-login", "/accounts/login", "Say whom of the provider's people an account is of")
	ShowAccess    = get[Nothing, sallyport.AccessRules]("show-access", "/access/rules", "Show who may do what: every policy in force")
	WhoCan        = get[WhoCanIn, List[sallyport.Holder]]("who-can", "/access/who-can", "List all who may do an action to a resource")
	CompareAccess = post[AccessSourceIn, sallyport.AccessChange]("compare-access", "/access/compare", "Tell what policies would change")
	SetAccess     = post[AccessSourceIn, sallyport.AccessChange]("set-access", "/access/rules", "Put policies in force")

	AskAccess       = post[AskIn, sallyport.RequestStatus]("ask-access", "/requests", "Ask to do something for a while")
	ListRequests    = get[RequestsIn, List[sallyport.RequestStatus]]("list-requests", "/requests", "List what asks for approval")
	ShowRequest     = get[ByRequest, sallyport.RequestStatus]("show-request", "/requests/{request}", "Show a request, its effect and who may vote")
	VoteOn          = post[VoteIn, sallyport.RequestStatus]("vote", "/requests/{request}/votes", "Approve or reject a request")
	WithdrawRequest = Call[ByRequest, None]{ID: "withdraw-request", Method: http.MethodDelete, Path: Prefix + "/requests/{request}", Summary: "Withdraw a request"}
	ActivateGrant   = post[ByRequest, sallyport.GrantStatus]("activate-grant", "/requests/{request}/grant", "Begin the time of access that was approved")
	ListGrants      = get[Paged, List[sallyport.GrantStatus]]("list-grants", "/grants", "List grants of access for a while")
	RevokeGrant     = post[RevokeIn, None]("revoke-grant", "/grants/{grant}/revoke", "End a grant")

	ThrowStop = post[StopIn, sallyport.StopReport]("stop", "/stops", "Stop a principal, runner, project, key or secret at once")
	LiftStop  = post[StopIn, sallyport.Stop]("lift-stop", "/stops/lift", "Lift a stop")
	ListStops = get[Nothing, List[sallyport.Stop]]("list-stops", "/stops", "List what is stopped")

	Identity        = get[IdentityIn, BuildIdentity]("build-identity", "/identity", "Show the certificate identity of a workflow's builds")
	ShowTokenIssuer = get[Nothing, TokenIssuer]("token-issuer", "/token-issuer", "Show the issuer of ID tokens and its keys")
	IssuerStatus    = get[Nothing, sallyport.IssuerStatus]("issuer-status", "/issuer", "Show when keys of ID tokens sign")
	RotateIssuer    = post[RotateIssuerIn, sallyport.IssuerStatus]("rotate-issuer", "/issuer/keys", "Make new keys of ID tokens")
	IssuedTokens    = get[ByJob, List[sallyport.IssuedToken]]("issued-tokens", "/jobs/{job}/id-tokens", "List the ID tokens that a job was given and refused")
	InstanceHealth  = get[Nothing, sallyport.InstanceHealth]("instance-health", "/health", "Show the state of the installation")
)

// Calls whose answer is not JSON. Their Out says what it is instead.
var (
	ReadLog     = get[LogIn, Bytes]("read-log", "/jobs/{job}/log", "Read a job's log, waiting for more")
	OpenContent = get[ByArtifact, Bytes]("open-artifact", "/artifacts/{artifact}/content", "Download an artifact")
	GetBundle   = get[ByStatement, Bytes]("get-bundle", "/statements/{statement}/bundle", "Download a Sigstore bundle")
	GetOutput   = get[ByDeployment, Bytes]("deployment-output", "/deployments/{deployment}/output", "Show the end of a release's own log")
	TrustRoot   = get[Nothing, Bytes]("trust-root", "/trust-root", "Download the Sigstore trusted root")
)

// Bytes is the Out of a call that answers with content of another kind.
type Bytes struct{}
