// Package trace records what a job does, from outside its room: which programs it
// starts, and whether the files that it had checked out are still what they were
// when an artifact is made of them.
//
// Programs are told by the sandbox (sallyport.RoomSpec.Started). The state of the
// source comes from git's own index, read once when the checkout has ended: it names
// every tracked file with the digest of its content and with the times and the inode that
// the file had. The kernel changes these with every write and lets nobody set them all back, so
// that looking at them again tells which files to read again. As root, on a file system of the
// job's own, fanotify(7) tells of every write as well, and so in which step it was and what was
// put back before anybody looked.
//
// All of it is bounded, and what is beyond the bounds is counted.
package trace
