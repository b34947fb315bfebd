package main

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/qnet-vm/qnet/internal/bench/contest"
	"github.com/qnet-vm/qnet/internal/bench/rig"
	guestfiles "github.com/qnet-vm/qnet/internal/lab/guest"
)

// warm measures how soon a new VM has a shell by SSH, in all and stage by stage: one that
// begins from a guest that was booted before for all of its profile, against the same one at
// its first boot. The first clone, whose run boots that guest, is not measured. Before that, the
// image's download.
func (b *bench) warm() error {
	profile, err := b.debianProfile("deb", guestfiles.Debian{})
	if err != nil {
		return err
	}
	if err := b.pull(); err != nil {
		return err
	}
	if _, err := b.stagesOf("seed", profile, "--warm"); err != nil {
		return err
	}
	rows := []contest.Row{{What: "shell by SSH of a new VM that begins warm", Unit: "ms", Most: 0.12}}
	for _, stage := range stages {
		rows = append(rows, contest.Row{What: "of that, " + stage.what, Unit: "ms"})
	}
	for i := range rows {
		rows[i].Against = "its first boot"
	}
	return b.Contest(rows,
		func() ([]float64, error) { return b.stagesOf("clone", profile, "--warm") },
		func() ([]float64, error) { return b.stagesOf("cold", profile) })
}

// stages are those between qnet run and a shell. Each is the time from the end of the one before.
var stages = []struct {
	what string
	wait []string // arguments of qnet, in front of the VM's name
}{
	{"until qnet run -d returns: disk, network, QEMU", nil},
	{"until the guest has its address", []string{"wait", "--for", "address", "--timeout", debianTime}},
	{"until its port 22 answers", []string{"wait", "--for", "port:22", "--timeout", debianTime}},
	{"until a login", []string{"wait", "--for", "ssh", "--timeout", debianTime}},
	{"until a command has ended", []string{"exec"}},
}

// stagesOf starts a new VM and returns the time until a command that was given to it by SSH has
// ended, and that of each stage, in ms. It removes the VM.
func (b *bench) stagesOf(name, profile string, options ...string) ([]float64, error) {
	defer b.removeVM(name)
	figures, all := []float64{0}, time.Duration(0)
	for _, stage := range stages {
		argv := append(slices.Clone(stage.wait), name)
		switch {
		case stage.wait == nil:
			argv = slices.Concat([]string{"run", "-d", "--name", name}, options, []string{profile})
		case stage.wait[0] == "exec":
			argv = append(argv, "--", "true")
		}
		took, err := rig.Run(append([]string{b.Qnet}, argv...)...)
		if err != nil {
			return nil, err
		}
		all += took
		figures = append(figures, ms(took))
	}
	figures[0] = ms(all)
	return figures, nil
}

// pull measures the download of an image from a server on this machine, verified and ready for
// VMs, against a copy of the file and its checksum.
func (b *bench) pull() error {
	image := filepath.Join(b.Cache, "debian", "debian.qcow2")
	content, err := os.ReadFile(image)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(filepath.Dir(image))), ReadHeaderTimeout: time.Minute}
	go server.Serve(l) // until Close
	defer server.Close()
	name := "http://" + l.Addr().String() + "/debian.qcow2#sha256=" + hex.EncodeToString(sum[:])
	copied := filepath.Join(b.Dir, "copy.qcow2")
	defer os.Remove(copied)
	return b.Contest([]contest.Row{{What: "pull of an image of 511 MB from this machine", Against: "cp and sha256sum", Unit: "ms"}},
		func() ([]float64, error) {
			took, err := rig.Run(b.Qnet, "image", "pull", name)
			if err != nil {
				return nil, err
			}
			_, err = rig.Run(b.Qnet, "image", "rm", name)
			return []float64{ms(took)}, err
		},
		func() ([]float64, error) {
			took, err := rig.Run("sh", "-c", "cp "+image+" "+copied+" && sync "+copied+" && sha256sum "+copied)
			return []float64{ms(took)}, err
		})
}
