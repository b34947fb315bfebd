package firstboot

import (
	"encoding/json"
	"errors"
	"strings"
)

// IgnitionUser is the account of Fedora CoreOS and Flatcar.
const IgnitionUser = "core"

// object is a JSON object, whose other keys stay as they are.
type object = map[string]any

// ignition returns the user's Ignition config with the keys for logins, the keys of the SSH
// server, and the host's name, unless it says so itself. Without one it is made
// (Ignition's configuration specification, version 3.0.0).
func (s Settings) ignition() ([]byte, error) {
	if key := s.notIgnitions(); key != "" {
		return nil, &Mistake{key, errors.New("a system with Ignition does not take it; say it in the config of user_data")}
	}
	config := object{"ignition": object{"version": "3.0.0"}}
	if s.UserData.Text != "" {
		config = nil
		if err := json.Unmarshal([]byte(s.UserData.Text), &config); err != nil || config == nil {
			return nil, s.UserData.bad("it is no JSON object, as Ignition needs it: %v", err)
		}
	}
	head, _ := config["ignition"].(object)
	version, _ := head["version"].(string)
	if !strings.HasPrefix(version, "2.") && !strings.HasPrefix(version, "3.") {
		return nil, s.UserData.bad("ignition.version: got %q, allowed: 2.x and 3.x", version)
	}
	s.ignitionUser(config)
	if strings.HasPrefix(version, "3.") {
		s.ignitionFiles(config)
	}
	return []byte(asJSON(config)), nil
}

// notIgnitions names a key that says what Ignition has no words for, "" without one.
func (s Settings) notIgnitions() string {
	switch {
	case len(s.Packages) > 0:
		return "guest.packages"
	case len(s.Run) > 0:
		return "guest.run"
	case s.Timezone != "":
		return "guest.timezone"
	case s.Locale != "":
		return "guest.locale"
	}
	return ""
}

// ignitionUser adds the keys to the account.
func (s Settings) ignitionUser(config object) {
	users := list(child(config, "passwd"), "users")
	for _, u := range users {
		if u, ok := u.(object); ok && u["name"] == s.User {
			keys := list(u, "sshAuthorizedKeys")
			for _, k := range s.keys() {
				keys = append(keys, k)
			}
			u["sshAuthorizedKeys"] = keys
			return
		}
	}
	user := object{"name": s.User, "sshAuthorizedKeys": s.keys()}
	if s.User != IgnitionUser && s.User != Root {
		user["groups"] = []string{"sudo", "wheel"}
	}
	if s.Password != "" {
		user["passwordHash"] = s.Password
	}
	child(config, "passwd")["users"] = append(users, user)
}

// ignitionFiles adds files that the config does not have.
func (s Settings) ignitionFiles(config object) {
	storage := child(config, "storage")
	files := list(storage, "files")
	has := map[any]bool{}
	for _, f := range files {
		if f, ok := f.(object); ok {
			has[f["path"]] = true
		}
	}
	add := func(path, text string, mode int) {
		if !has[path] {
			files = append(files, object{
				"path": path, "mode": mode, "overwrite": true,
				"contents": object{"source": "data:;base64," + encode(text)},
			})
		}
	}
	for _, k := range s.HostKeys {
		path := "/etc/ssh/ssh_host_" + KeyName(k) + "_key"
		add(path, k.Private, 0o600)
		add(path+".pub", k.Public+"\n", 0o644)
	}
	add("/etc/hostname", s.Hostname+"\n", 0o644)
	storage["files"] = files
}

// child returns the object below a key, which it makes.
func child(o object, key string) object {
	c, ok := o[key].(object)
	if !ok {
		c = object{}
		o[key] = c
	}
	return c
}

// list returns the array below a key.
func list(o object, key string) []any {
	l, _ := o[key].([]any)
	return l
}
