package image

// Bounds of an image when it is unpacked. Large toolchain images have some
// 300,000 files and 15 GiB.
const (
	maxEntries = 2_000_000
	maxBytes   = 32 << 30
	maxPath    = 4096 // what Linux opens in one call
	maxName    = 255
	maxDepth   = 256
	maxLinks   = 40 // symlinks on one path, as the kernel has it
	maxID      = 65535
	maxMarked  = 256 << 20 // names of one layer, which are kept while it is laid
)
