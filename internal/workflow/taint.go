package workflow

import "slices"

// The github context carries text that anyone can write who may open an issue
// or push a branch to a fork. Everything of these names is marked as tainted.
var (
	// taintedFields of the github context itself.
	taintedFields = []string{"head_ref", "ref", "ref_name"}
	// taintedKeys are names of free text anywhere in the event's payload.
	taintedKeys = []string{
		"body", "context", "default_branch", "description", "details_url", "external_id", "target_url", "task", "display_title", "head_branch", "head_ref", "homepage", "label",
		"message", "page_name", "ref", "ref_name", "summary", "tag_name", "text", "title",
	}
	// taintedPeople are names whose name, email and username people choose themselves.
	taintedPeople = []string{"author", "committer", "labels", "label", "milestone", "user", "assets", "release", "pusher"}
	taintedPerson = []string{"email", "name", "username"}
	// taintedTrees are marked whole: the sender composes them.
	taintedTrees = []string{"client_payload", "payload"}
	// ownTrees of the payload describe this repository and are not written by outsiders.
	ownTrees = []string{"enterprise", "organization", "repository", "installation"}
)

// taintGitHub returns the github context with its untrusted fields marked.
func taintGitHub(v Value) Value {
	if v.kind != KindObject {
		return v
	}
	out := newObject(len(v.obj.keys), false)
	for _, e := range v.Entries() {
		switch k := foldCase(e.Key); {
		case k == "event":
			e.Value = taintPayload(e.Value)
		case slices.Contains(taintedFields, k):
			e.Value = e.Value.Taint()
		}
		out.set(e.Key, e.Value)
	}
	return Value{kind: KindObject, obj: out, tainted: v.tainted}
}

// taintPayload marks the untrusted parts of an event's payload.
func taintPayload(v Value) Value {
	if v.kind != KindObject {
		return v
	}
	out := newObject(len(v.obj.keys), false)
	for _, e := range v.Entries() {
		if !slices.Contains(ownTrees, foldCase(e.Key)) {
			e.Value = taintBelow(foldCase(e.Key), "", e.Value)
		}
		out.set(e.Key, e.Value)
	}
	return Value{kind: KindObject, obj: out, tainted: v.tainted}
}

// taintBelow marks v, found under the names parent and key, and what is in it.
func taintBelow(key, parent string, v Value) Value {
	switch v.kind {
	case KindString:
		if slices.Contains(taintedKeys, key) || slices.Contains(taintedPerson, key) && slices.Contains(taintedPeople, parent) {
			return v.Taint()
		}
	case KindArray:
		items := make([]Value, len(v.arr.items))
		for i, x := range v.arr.items {
			items[i] = taintBelow(key, parent, x)
		}
		return Value{kind: KindArray, arr: newArray(items), tainted: v.tainted}
	case KindObject:
		if slices.Contains(taintedTrees, key) {
			return v.Taint()
		}
		out := newObject(len(v.obj.keys), v.obj.exact)
		for _, e := range v.Entries() {
			out.set(e.Key, taintBelow(foldCase(e.Key), key, e.Value))
		}
		return Value{kind: KindObject, obj: out, tainted: v.tainted}
	}
	return v
}
