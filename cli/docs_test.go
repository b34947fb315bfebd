package cli

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/qnet-vm/qnet/cli/call"
	"github.com/qnet-vm/qnet/profiles"
)

// described lists the commands and flags of the man page: "run", "run --name".
func described(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../docs/qnet.1")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	command := ""
	item := regexp.MustCompile(`^\.It (Ic|Fl) (.*)$`)
	flag := regexp.MustCompile(`Fl (?:Fl )?(\S+)`)
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, ".Sh ") && !strings.HasPrefix(line, ".Sh COMMANDS") {
			command = ""
		}
		m := item.FindStringSubmatch(strings.TrimSpace(line))
		switch {
		case m == nil:
		case m[1] == "Ic":
			command = strings.Fields(m[2])[0]
			found = append(found, command)
		default:
			for _, f := range flag.FindAllStringSubmatch("Fl "+m[2], -1) {
				found = append(found, strings.TrimSpace(command+" -"+f[1]))
			}
		}
	}
	slices.Sort(found)
	return found
}

func actual() []string {
	app := (&app{}).command()
	var list []string
	add := func(command string, flags []cli.Flag) {
		for _, f := range flags {
			if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
				continue
			}
			for _, n := range f.Names() {
				list = append(list, strings.TrimSpace(command+" -"+n))
			}
		}
	}
	add("", app.Flags)
	for _, c := range app.Commands {
		if !c.Hidden {
			list = append(list, c.Name)
			add(c.Name, c.Flags)
		}
	}
	slices.Sort(list)
	return list
}

// The man page describes each command and flag, and no others.
func TestManPageIsInStep(t *testing.T) {
	got, want := described(t), actual()
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("docs/qnet.1 lacks %q", w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("docs/qnet.1 has %q, qnet does not", g)
		}
	}
	if mandoc, err := exec.LookPath("mandoc"); err == nil {
		if out, err := exec.Command(mandoc, "-Tlint", "-W", "warning", "../docs/qnet.1").CombinedOutput(); err != nil {
			t.Errorf("mandoc: %s", out)
		}
	}
}

// Each command says in one line what it does, and the README names it.
func TestCommandsAreInTheREADME(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range (&app{}).command().Commands {
		if c.Hidden {
			continue
		}
		if c.Usage == "" || strings.Contains(c.Usage, "\n") {
			t.Errorf("%s: usage %q", c.Name, c.Usage)
		}
		if !strings.Contains(string(readme), "qnet "+c.Name) {
			t.Errorf("README.md lacks qnet %s", c.Name)
		}
	}
}

// The profiles in README.md decode.
func TestREADMEProfiles(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) == 0 {
		t.Error("no profile in README.md")
	}
	for _, b := range blocks {
		if _, err := profiles.Decode(strings.NewReader(b[1]), "readme.toml"); err != nil {
			t.Errorf("%v\n%s", err, b[1])
		}
	}
}

func TestCompletionScripts(t *testing.T) {
	for shell, check := range map[string][]string{"bash": {"bash", "-n"}, "zsh": {"zsh", "-n"}, "fish": {"fish", "-n"}} {
		var out strings.Builder
		code := Main(t.Context(), []string{"completion", shell}, call.Env{Stdout: &out, Stderr: &out, Getenv: os.Getenv})
		if code != 0 || !strings.Contains(out.String(), "qnet") {
			t.Errorf("completion %s: exit code %d\n%s", shell, code, &out)
		}
		if _, err := exec.LookPath(check[0]); err != nil {
			continue
		}
		cmd := exec.Command(check[0], check[1:]...)
		cmd.Stdin = strings.NewReader(out.String())
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s -n: %s", shell, text)
		}
	}
	// What bash offers for "qnet run --", for "qnet s", and where a VM's name goes.
	for words, want := range map[string]string{"qnet run --": "--name", "qnet s": "stop", "qnet completion ": "zsh", "qnet ssh ": "web", "qnet wait ": "web", "qnet image ": "prune", "qnet image pull ": "web", "qnet run ": "web", "qnet plan ": "web", "qnet cp ": "web:", "qnet view ": "web", "qnet snapshot ": "restore", "qnet snapshot save ": "web", "qnet forward ": "add", "qnet forward ls ": "web"} {
		var script strings.Builder
		Main(t.Context(), []string{"completion", "bash"}, call.Env{Stdout: &script, Stderr: &script, Getenv: os.Getenv})
		script.WriteString("qnet() { printf 'NAME\\nweb\\n'; }\n")
		fields := strings.Split(words, " ")
		script.WriteString("COMP_WORDS=(" + strings.Join(fields, " ") + ")\n")
		if strings.HasSuffix(words, " ") {
			script.WriteString("COMP_WORDS+=('')\n")
		}
		script.WriteString("COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _qnet; echo \"${COMPREPLY[@]}\"\n")
		out, err := exec.Command("bash", "-c", script.String()).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("completing %q: %v %s, want %s", words, err, out, want)
		}
	}
}
