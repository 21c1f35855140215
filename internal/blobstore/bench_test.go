package blobstore

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/sallyporttest"
)

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{64 << 10, 64 << 20} {
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
			d := openDir(b, b.TempDir(), sallyporttest.NewKMS())
			content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
			b.SetBytes(int64(size))
			for b.Loop() {
				put(b, d, scope, content)
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	for _, size := range []int{64 << 10, 64 << 20} {
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
			d := openDir(b, b.TempDir(), sallyporttest.NewKMS())
			digest := put(b, d, scope, bytes.Repeat([]byte("0123456789abcdef"), size/16))
			b.SetBytes(int64(size))
			for b.Loop() {
				r, err := d.Get(b.Context(), scope, digest)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}

func BenchmarkLogAppend(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l := openLogs(b, b.TempDir(), sallyporttest.NewKMS())
			data := make([]byte, size)
			var end int64
			b.SetBytes(int64(size))
			for b.Loop() {
				var err error
				if end, err = l.Append(b.Context(), sallyport.JobID("job"), end, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLogRead(b *testing.B) {
	l := openLogs(b, b.TempDir(), sallyporttest.NewKMS())
	const total, frame, window = 32 << 20, 4 << 10, 64 << 10
	for end := int64(0); end < total; {
		var err error
		if end, err = l.Append(b.Context(), "job", end, make([]byte, frame)); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(window)
	offset := int64(0)
	for b.Loop() {
		if got, err := l.Read(b.Context(), "job", offset, window); err != nil || len(got) != window {
			b.Fatal(len(got), err)
		}
		offset = (offset + 7*window + 1) % (total - window)
	}
}
