// Command words counts the words of its standard input.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

// version is set by the linker.
var version = "dev"

func count(r io.Reader) (n int, err error) {
	s := bufio.NewScanner(r)
	s.Split(bufio.ScanWords)
	for s.Scan() {
		n++
	}
	return n, s.Err()
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "--version" {
		fmt.Println(version)
		return
	}
	n, err := count(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "words:", err)
		os.Exit(1)
	}
	fmt.Println(n)
}
