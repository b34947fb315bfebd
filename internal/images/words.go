package images

import (
	"fmt"
	"time"
)

// wordsEvery is the time between two words about a download.
const wordsEvery = 200 * time.Millisecond

// InWords returns what tells how far a download is, in words that follow "waiting for".
func InWords(tell func(string)) Progress {
	var meter Meter
	var told time.Time
	return func(e Event) {
		now := time.Now()
		if meter.Begins(e, now) || now.Sub(told) >= wordsEvery {
			told = now
			tell(fmt.Sprintf("image %s: %s", e.Image, meter.Text(e, now)))
		}
	}
}
