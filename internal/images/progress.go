package images

// Stage is what a pull is doing.
type Stage string

// The stages, in their order.
const (
	Waiting     Stage = "waiting"     // for another process that pulls the same image
	Looking     Stage = "looking"     // which checksum is published
	Downloading Stage = "downloading" // Done of Total bytes
	Unpacking   Stage = "unpacking"   // Done of Total bytes of what was downloaded
	Converting  Stage = "converting"  // Done percent of a Total of 100
	Hashing     Stage = "hashing"     // Done of Total bytes
	Ready       Stage = "ready"       // Total bytes, verified
)

// Event tells how far a pull is.
type Event struct {
	Stage       Stage
	Image       string // Image.Source
	From        string // URL that is downloaded
	Done, Total int64  // Total is -1 if it is not known
}

// Progress is called often, from one goroutine.
type Progress func(Event)

func (p Progress) orNone() Progress {
	if p == nil {
		return func(Event) {}
	}
	return p
}
