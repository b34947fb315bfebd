package swtpm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qnet-vm/qnet/internal/lab"
	"github.com/qnet-vm/qnet/qemu/program"
)

// stateDir makes a directory for a TPM of the user that the tests run swtpm as: nobody, where
// they can.
func stateDir(t *testing.T) (*os.File, *program.Credential) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tpm")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var c *program.Credential
	if os.Geteuid() == 0 {
		c = &program.Credential{UID: 65534, GID: 65534}
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, c
}

func start(t *testing.T, state *os.File, c *program.Credential) *TPM {
	t.Helper()
	lab.Require(t, lab.Root, lab.Program("swtpm"))
	binary, err := Find(os.Getenv("PATH"))
	if err != nil {
		t.Fatal(err)
	}
	tpm, err := Start(state, Options{Program: binary, Credential: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tpm.Stop() })
	return tpm
}

// ask sends a command of swtpm's control channel, big-endian words, as QEMU does, and returns
// the first word of the answer, which is 0 for success (swtpm_ioctls(3)).
func ask(t *testing.T, tpm *TPM, words ...uint32) (uint32, error) {
	t.Helper()
	c, err := net.FileConn(tpm.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if err := binary.Write(c, binary.BigEndian, words); err != nil {
		return 0, err
	}
	answer := make([]byte, 64)
	n, err := c.Read(answer)
	if err != nil || n < 4 {
		return 0, errors.Join(err, errors.New("no answer"))
	}
	return binary.BigEndian.Uint32(answer), nil
}

// Commands of the control channel.
const (
	getCapability = 1
	initialize    = 2
)

// A TPM without rights keeps its state in the directory, and ends by Stop.
func TestTPM(t *testing.T) {
	state, c := stateDir(t)
	tpm := start(t, state, c)
	if _, err := ask(t, tpm, getCapability); err != nil {
		t.Fatal(err)
	}
	if result, err := ask(t, tpm, initialize, 0); err != nil || result != 0 {
		t.Fatalf("initialize: %d, %v", result, err)
	}
	if made, _ := filepath.Glob(state.Name() + "/tpm2-*"); len(made) == 0 {
		t.Error("no state was made")
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(tpm.PID()) + "/status")
	for _, want := range []string{"NoNewPrivs:\t1", "CapBnd:\t0000000000000000", "CapEff:\t0000000000000000", "Seccomp:\t2", "Uid:\t65534\t"} {
		if err != nil || !strings.Contains(string(status), want) {
			t.Errorf("got %v, want %q in\n%s", err, want, status)
		}
	}
	if err := tpm.Err(); err != nil {
		t.Errorf("it runs: %v", err)
	}
	if err := tpm.Stop(); err != nil {
		t.Error(err)
	}
	if err := tpm.Stop(); err != nil {
		t.Errorf("stop again: %v", err)
	}
}

// A TPM that cannot use its state ends, and its words say why.
func TestTPMWithoutState(t *testing.T) {
	state, c := stateDir(t)
	if err := os.Chmod(state.Name(), 0o000); err != nil {
		t.Fatal(err)
	}
	tpm := start(t, state, c)
	if result, err := ask(t, tpm, initialize, 0); err == nil && result == 0 {
		t.Fatal("it has taken a directory that is closed to it")
	}
	died := errors.New("QEMU exited with status 1")
	err := tpm.Explain(died)
	var bad *StateError
	if !errors.Is(err, died) || !errors.As(err, &bad) || !strings.Contains(err.Error(), "Permission denied") || !strings.Contains(bad.Hint(), state.Name()) {
		t.Errorf("got %v", err)
	}
}

// landlock is a kernel that has Landlock (landlock(7)).
var landlock = lab.Need{Name: "Landlock", OK: func() bool {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	return errno == 0 && version > 0
}}

// A program in swtpm's place can change its state, and reaches no other file.
func TestReachesItsStateOnly(t *testing.T) {
	lab.Require(t, lab.Root, landlock)
	state, c := stateDir(t)
	beside := t.TempDir()
	secret := filepath.Join(beside, "secret")
	script := filepath.Join(t.TempDir(), "swtpm")
	text := "#!/bin/sh\ncd /proc/self/fd/4 && echo a > new && mv new kept || echo NO STATE >&2\n" +
		"cat " + secret + " >&2\necho x > " + beside + "/made\nexit 3\n"
	if err := errors.Join(os.WriteFile(secret, []byte("SECRET"), 0o644), os.Chmod(beside, 0o777), os.WriteFile(script, []byte(text), 0o755)); err != nil {
		t.Fatal(err)
	}
	for dir := range strings.SplitSeq(beside+" "+filepath.Dir(script), " ") { // the user that swtpm runs as may enter
		for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			os.Chmod(dir, 0o777)
		}
	}
	tpm, err := Start(state, Options{Program: script, Credential: c})
	if err != nil {
		t.Fatal(err)
	}
	<-tpm.Done()
	words := tpm.Err().Error()
	if strings.Contains(words, "SECRET") || strings.Contains(words, "NO STATE") || !strings.Contains(words, "Permission denied") {
		t.Errorf("got %s", words)
	}
	if _, err := os.Stat(state.Name() + "/kept"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(beside + "/made"); err == nil {
		t.Error("it has written beside its state")
	}
}

func TestStartRefuses(t *testing.T) {
	if _, err := Start(os.Stdin, Options{Program: "/none/swtpm"}); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "start swtpm: ") {
		t.Errorf("got %v", err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "swtpm")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := Find("relative:" + dir); err != nil || got != path {
		t.Errorf("got %q, %v", got, err)
	}
	os.Chmod(path, 0o644)
	got, err := Find(dir)
	if _, there := os.Stat("/usr/bin/swtpm"); there == nil {
		if err != nil || got != "/usr/bin/swtpm" {
			t.Errorf("got %q, %v", got, err)
		}
		return
	}
	var lack *program.Lack
	if !errors.As(err, &lack) || !strings.Contains(lack.Hint(), "apt install swtpm") {
		t.Errorf("got %v", err)
	}
}

// It ends with a qnet that is killed.
func TestTPMDiesWithItsStarter(t *testing.T) {
	if dir := os.Getenv("QNET_TEST_TPM"); dir != "" {
		state, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString(strconv.Itoa(start(t, state, &program.Credential{UID: 65534, GID: 65534}).PID()) + "\n")
		select {}
	}
	lab.Require(t, lab.Root, lab.Program("swtpm"))
	state, _ := stateDir(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestTPMDiesWithItsStarter$")
	cmd.Env = append(os.Environ(), "QNET_TEST_TPM="+state.Name())
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, convErr := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || convErr != nil {
		t.Fatalf("got %q, %v", line, err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	cmd.Process.Kill()
	cmd.Wait()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000); n != 1 || err != nil {
		t.Errorf("process %d lives on: %v", pid, err)
		unix.Kill(pid, unix.SIGKILL)
	}
}
