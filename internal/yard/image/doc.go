// Package image unpacks OCI images into root file systems for rooms, one directory
// an image, shared by all rooms and changed by none.
//
// Layers are foreign bytes: nothing in them leads out of the directory, no device, set-id bit or
// extended attribute is taken over, and sizes and counts are bounded. It
// fetches nothing; the runner hands it the layers.
package image
