// Package rights decides who may do what: policies in Cedar over principals,
// actions and resources of a fixed schema. It is pure: text and entities in,
// decisions with their reasons out. The engine asks it first in every method of
// a service, and the cli to check a file without a server.
//
// It stands beside the gates of package policy and shares nothing with them: a
// gate judges evidence about an artifact, in Rego; rights judge a request.
//
// What holds whatever the policies say:
//   - what no permit names is denied, and a forbid beats every permit;
//   - an error while a policy is evaluated denies: Cedar alone would skip a
//     forbid that fails;
//   - a permit names its principal, its actions and its resource (lint.go);
//   - the policies of builtin.cedar are part of every set: environments are
//     apart, lower tiers reach no higher, agents administer nothing;
//   - an agent may do what its policies permit and its sponsor may do too.
package rights
