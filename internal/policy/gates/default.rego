# The gate that every environment has. It allows what it can prove from the
# evidence document, and says for each thing it could not prove what is missing.
package sallyport.gate

default allow := false

allow if count(missing) == 0

default ask := false

ask if {
	input.environment.approval == true
	count(approvers) < needed
}

# Distinct people; a person who is named twice is one.
approvers := {a.by | some a in object.get(input, "approvals", [])}

needed := object.get(input.environment, "approvals", 1)

asked contains sprintf("environment %s asks for the approval of %d, and %d gave it", [input.environment.name, needed, count(approvers)]) if ask

asked contains sprintf("approved by %s", [by]) if some by in approvers

reasons := {m | some m in missing} if count(missing) > 0

reasons := {sprintf("provenance by %s for %s from %s at %s", [p.predicate.runDetails.builder.id, input.subject.digest, input.run.ref, input.run.commit]) | some p in provenance} | asked if count(missing) == 0

# Provenance that verifies and was signed as this environment's workflow on the protected branch.
# What a job says of itself is none, whatever it calls it.
signed contains s if {
	some s in input.statements
	not s.asserted_by
	s.predicate_type == "https://slsa.dev/provenance/v1"
	s.verified == true
	s.issuer == input.expected.issuer
	s.identity == input.expected.identity
}

# … by this installation's builder, from this run's commit, without a foreign hand.
provenance contains s if {
	some s in signed
	s.predicate.runDetails.builder.id in input.expected.builders
	s.predicate.buildDefinition.externalParameters.workflow.path == input.environment.workflow
	s.predicate.buildDefinition.externalParameters.workflow.ref == input.project.protected_ref
	some dep in s.predicate.buildDefinition.resolvedDependencies
	dep.digest.gitCommit == input.run.commit
}

missing contains sprintf("the kept content is not what was attested: %s", [input.subject.content]) if input.subject.content != "verified"

missing contains sprintf("no provenance for %s verifies as %s", [input.subject.digest, input.expected.identity]) if count(signed) == 0

missing contains "the provenance does not name this builder, workflow, branch and commit" if {
	count(signed) > 0
	count(provenance) == 0
}

missing contains sprintf("statement %s (%s) does not verify: %s", [s.id, s.predicate_type, s.problem]) if {
	some s in input.statements
	s.verified == false
}

missing contains sprintf("the run that built it ended as %q, not success", [input.run.conclusion]) if input.run.conclusion != "success"

missing contains sprintf("it was built by %s, the environment wants %s", [input.run.workflow, input.environment.workflow]) if input.run.workflow != input.environment.workflow

# A workflow may make more than what is meant to run, such as reports.
missing contains sprintf("it is artifact %q, the environment wants %q", [input.subject.name, wanted]) if input.subject.name != wanted

wanted := object.get(input.environment, "artifact", "")

missing contains sprintf("commit %s is not on %s", [input.run.commit, input.project.protected_ref]) if not input.run.on_protected

missing contains sprintf("its trust tier is %q, a deployment needs protected or release", [input.subject.tier]) if not input.subject.tier in {"protected", "release"}

# What a run took from the cache must be trusted as much as what it made of it.
# The record of the run says what that was, and the signed provenance says it again.
missing contains sprintf("the run restored cache entry %s, which a run of tier %q saved; the artifact is of tier %q", [c.id, c.tier, input.subject.tier]) if {
	some c in object.get(input.run, "restored", [])
	not feeds(c.tier)
}

missing contains sprintf("the provenance names cache entry %s of tier %q; the artifact is of tier %q", [dep.uri, tier, input.subject.tier]) if {
	some p in provenance
	some dep in p.predicate.buildDefinition.resolvedDependencies
	object.get(dep, "name", "") == "cache"
	tier := object.get(dep, ["annotations", "tier"], "")
	not feeds(tier)
}

# In observe mode the door let through what no rule allows; nobody has said that it may be.
# The record of the run says whether it was on, and the signed provenance says it again.
missing contains "the run was in observe mode, in which jobs reach hosts that no rule allows" if object.get(input.run, ["network", "observe"], false) != false

missing contains "the provenance says that the job was in observe mode, in which it reaches hosts that no rule allows" if {
	some p in provenance
	object.get(p.predicate.buildDefinition, ["internalParameters", "network", "observe"], false) != false
}

# What the runner saw from outside the room: whether the commit's tree was built, and whether
# it was still that when the artifact was made.
traces contains s.predicate if {
	some s in input.statements
	s.predicate_type == "https://in-toto.io/attestation/runtime-trace/v0.2"
	s.verified == true
	s.issuer == input.expected.issuer
	s.identity == input.expected.identity
}

missing contains sprintf("the source that was built is not the tree of commit %s, which it claims to be", [t.sallyportSource.commit]) if {
	some t in traces
	object.get(t.sallyportSource, "matchesCommit", false) != true
}

missing contains "nothing shows that the source was not edited before the artifact was made" if {
	input.environment.sealed_source == true
	count([t | some t in traces; t.sallyportSource.commit == input.run.commit]) == 0
}

missing contains sprintf("the build edited %d tracked files, and the environment wants them unchanged: %s", [t.sallyportSource.changed, named]) if {
	input.environment.sealed_source == true
	some t in traces
	t.sallyportSource.changed > 0
	named := concat(", ", array.slice(sort([f.name | some f in object.get(t.monitorLog, "fileAccess", [])]), 0, 5))
}

# What another job made may be within this artifact.
missing contains sprintf("job %s edited %d tracked files before it made an artifact, and the environment wants them unchanged", [j.job, j.changed]) if {
	input.environment.sealed_source == true
	some j in object.get(input.run, "sources", [])
	j.changed > 0
}

missing contains sprintf("nothing shows that job %s did not edit the source before it made an artifact", [j.job]) if {
	input.environment.sealed_source == true
	some j in object.get(input.run, "sources", [])
	j.seen == false
}

feeds(tier) if rank[tier] >= rank[input.subject.tier]

rank := {"untrusted": 0, "member": 1, "protected": 2, "release": 3}
