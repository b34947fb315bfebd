package images

import (
	"net/http"
	"os"
	"testing"

	"github.com/qnet-vm/qnet/internal/images/fetch"
	"github.com/qnet-vm/qnet/profiles"
)

// Each image of the catalog is where the catalog says, and so are its checksum and the
// signature. `make catalog-online` sets the variable: the test needs the Internet.
func TestCatalogOnline(t *testing.T) {
	if os.Getenv("QNET_ONLINE") == "" {
		t.Skip("make catalog-online runs it")
	}
	s := Store{Dir: t.TempDir(), Fetch: fetch.Fetcher{Agent: "qnet-catalog-check"}}
	known, err := s.Catalog()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range known.Names() {
		i, err := s.Resolve(profiles.Image{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		sum, err := (&pulling{Store: s, Image: i, report: Progress(nil).orNone()}).published(t.Context())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, url := range []string{i.URL, i.Signed} {
			if url == "" {
				continue
			}
			response, err := http.Head(url)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("%s: %s: %s", name, url, response.Status)
			}
		}
		t.Logf("%s: %s", name, sum)
	}
}
