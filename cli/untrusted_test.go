package cli

import (
	"testing"

	"github.com/qnet-vm/qnet/internal/lab"
)

// Root's runs keep nothing in directories in which another user could put links and journals,
// whose undo they would carry out. They say why, and change nothing.
func TestDirectoriesOfOthers(t *testing.T) {
	inLab(t, func(l *testHost) {
		d := l.dir
		lab.Sh(t, "install -d -o 64001 "+d+"/theirs && install -d -m 777 "+d+"/all && install -d "+d+"/own && ln -s own "+d+"/link && chown -h 64001 "+d+"/link && "+
			"install -d -m 775 -g 64001 "+d+"/group && install -d -o 65534 "+d+"/users && touch "+d+"/canary")
		l.prepared()
		path := l.profile("vm", idle+"[[nic]]\nmode = \"nat\"\n")
		for _, dir := range []string{"theirs", "theirs/run", "all", "all/run", "link", "link/run", "group/run"} {
			for _, flag := range []string{"--run-dir", "--state-dir"} {
				l.refused(exitUsage, []string{"another user could put files there", d, "name another directory by " + flag}, flag, d+"/"+dir, "run", path)
			}
			l.refused(exitUsage, []string{"another user could put files there"}, "--run-dir", d+"/"+dir, "gc")
		}
		l.env = append(l.env, "SUDO_UID=65534", "SUDO_GID=65534")
		l.refused(exitUsage, []string{"another user could put files there"}, "--run-dir", d+"/users/run", "run", path)
		l.must("--state-dir", d+"/users/state", "run", "-d", path)
		l.must("stop", "--force", "vm")
	})
}
