package daemon

import (
	"os"
	"path/filepath"

	"github.com/sallyport-ci/sallyport"
	"github.com/sallyport-ci/sallyport/internal/yard/tools"
)

// ToolCache opens the tool cache of the installation with that data directory, else
// that in dir, else the user's own.
func ToolCache(data, dir string) (*tools.Cache, error) {
	switch {
	case data != "" && dir != "":
		return nil, sallyport.Errorf(sallyport.CodeInvalid, "--data and --tool-cache name two tool caches").WithHint("leave one out")
	case data != "":
		if _, err := os.Stat(settingsFile(data)); err != nil {
			return nil, sallyport.Errorf(sallyport.CodeNotFound, "%s is not the data directory of an installation", data).WithHint("start it once with: sallyport up --data %s", data)
		}
		dir = filepath.Join(data, "runner", "tools")
	case dir == "":
		base := os.Getenv("XDG_DATA_HOME")
		if !filepath.IsAbs(base) {
			home, err := os.UserHomeDir()
			if err != nil {
				return tools.Open(""), nil // there is none: what is not there is empty
			}
			base = filepath.Join(home, ".local", "share")
		}
		dir = filepath.Join(base, "sallyport", "tools")
	}
	abs, err := filepath.Abs(dir)
	return tools.Open(abs), err
}
