// Package blobstore is sallyport.Blobs and sallyport.Logs on a directory of
// this host. Whatever Dir and Logs write is sealed: each file has a key of its own, kept
// beside its content under the installation's key-encryption key, and bound to
// whose it is. It knows nothing of what the bytes mean; daemon opens it,
// engine uses it through the seams.
//
// A reader of the disk without the key learns the number, sizes and times of
// blobs and logs, and the ids of jobs. A writer of the disk can delete, and cut
// the end of a log; all else that he does is found when it is read.
//
// Blobs may be shared by several processes. The logs of a directory belong to
// one process.
package blobstore
