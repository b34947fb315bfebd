package profiles

import (
	"encoding/json"
	"reflect"

	"github.com/qnet-vm/qnet/profiles/strict"
)

// decoder reads one profile.
type decoder struct {
	*strict.Decoder
	home string // the user's home directory, "" if it is not known

	forwardKeys map[Forward]string // the key that each comes from
}

var language = strict.Language{
	What: "a profile", Names: namePattern, TableOf: tableOf, Foreign: foreign, Meant: textMeant,
	Tables: []strict.Table{
		{Name: "", Where: "at the top, before the first table", Of: reflect.TypeFor[rawProfile]()},
		{Name: "boot", Where: "in [boot]", Of: reflect.TypeFor[rawBoot]()},
		{Name: "disk", Where: "in [[disk]]", Of: reflect.TypeFor[rawDisk]()},
		{Name: "guest", Where: "in [guest]", Of: reflect.TypeFor[rawGuest]()},
		{Name: "share", Where: "in [[share]]", Of: reflect.TypeFor[rawShare]()},
		{Name: "display", Where: "in [display]", Of: reflect.TypeFor[rawDisplay]()},
		{Name: "devices", Where: "in [devices]", Of: reflect.TypeFor[rawDevices]()},
		{Name: "nic", Where: "in [[nic]]", Of: reflect.TypeFor[rawNIC]()},
		{Name: "network", Where: "in [network.NAME]", Of: reflect.TypeFor[rawNetwork]()},
	},
}

// Schema returns the JSON Schema (draft 2020-12) of a profile, made from the types
// that Load decodes into. Editors complete and check TOML with it.
func Schema() ([]byte, error) {
	s := language.Schema(reflect.TypeFor[rawProfile](), "qnet VM profile")
	s["properties"].(map[string]any)["name"].(map[string]any)["not"] = map[string]any{"enum": ReservedNames()}
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}
