package plan

// Note is what the users of a network's VMs should know.
type Note struct {
	Subject string `json:"subject,omitempty"` // what it is about: "network dev", "VM web", "uplink eth0"
	Text    string `json:"text"`              // what has happened, as a sentence that names the subject
	Remedy  string `json:"remedy,omitempty"`  // what the user can do about it; "" if nothing
}

// String is the sentence with its remedy.
func (n Note) String() string {
	if n.Remedy == "" {
		return n.Text
	}
	return n.Text + "; " + n.Remedy
}

// Sentences are the notes as text.
func Sentences(notes []Note) []string {
	var list []string
	for _, n := range notes {
		list = append(list, n.String())
	}
	return list
}
