// Package oci fetches OCI images from registries for the control plane, by
// digest, and keeps their layers sealed. Credentials and registries are those of the
// host's own client configuration (the docker and podman configuration files). It
// unpacks nothing: layers are foreign bytes and belong to the yard.
//
// The engine calls it through sallyport.Images.
package oci
