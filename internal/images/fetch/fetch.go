// Package fetch downloads files by HTTP: into a partial file that a later call resumes
// (RFC 9110, 14.2 Range, 13.1.5 If-Range), with a limit on how long a server may stand
// still, and a few tries. It verifies nothing: the caller compares checksums.
//
// A partial file belongs to one process at a time; the caller holds a lock. The methods of
// a Fetcher may be called concurrently for different files.
package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	defaultStall = 30 * time.Second
	defaultPause = time.Second
	tries        = 5                // in a row that bring nothing
	dialTime     = 10 * time.Second // for the server's name and a connection to it
)

// Fetcher downloads files. The zero Fetcher works.
type Fetcher struct {
	Client *http.Client  // nil is one that honours HTTPS_PROXY, HTTP_PROXY and NO_PROXY
	Stall  time.Duration // how long a server may send nothing; 0 is 30 s
	Pause  time.Duration // before the second try, doubled before each later one; 0 is 1 s
	Agent  string        // User-Agent; "" is qnet
}

// HTTPError is an answer other than the file.
type HTTPError struct {
	URL    string
	Status string // such as "404 Not Found"
	Code   int
}

// Error names the URL and the status.
func (e *HTTPError) Error() string { return fmt.Sprintf("get %s: the server says %s", e.URL, e.Status) }

// Hint says what to do.
func (e *HTTPError) Hint() string {
	switch e.Code {
	case http.StatusNotFound, http.StatusGone:
		return "the file has moved or its release has ended: images.toml can name its new place, see docs/images.md"
	case http.StatusProxyAuthRequired:
		return "the proxy wants a user: HTTPS_PROXY=http://user:password@host:port"
	}
	return "try again later; the part that came is kept"
}

// temporary reports whether another try may help.
func (e *HTTPError) temporary() bool {
	return e.Code >= http.StatusInternalServerError || e.Code == http.StatusTooManyRequests || e.Code == http.StatusRequestTimeout
}

// NetError is a connection that cannot be made or that ended.
type NetError struct {
	URL string
	Err error
}

// Error names the host and the cause.
func (e *NetError) Error() string {
	host := e.URL
	if u, err := url.Parse(e.URL); err == nil {
		host = u.Host
	}
	var dns *net.DNSError
	if errors.As(e.Err, &dns) && dns.IsTimeout {
		return fmt.Sprintf("get from %s: no name server answers: %v", host, e.Err)
	}
	return fmt.Sprintf("get from %s: %v", host, e.Err)
}

// Unwrap returns the cause.
func (e *NetError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *NetError) Hint() string {
	return "look at the network, and at HTTPS_PROXY and NO_PROXY; the part that came is kept and goes on from there. An image that is in the cache needs no network"
}

// ErrStalled is wrapped by the error about a server that sends nothing for a while.
var ErrStalled = errors.New("the server sent nothing")

// errDowngrade is the refusal of a redirect.
var errDowngrade = errors.New("redirected from https to http, where anybody on the way could change it")

// Text returns a small file, which must come by HTTPS, also behind redirects, and have at
// most limit bytes.
func (f Fetcher) Text(ctx context.Context, from string, limit int64) ([]byte, error) {
	if u, err := url.Parse(from); err != nil || u.Scheme != "https" {
		return nil, fmt.Errorf("get %s: only https is allowed", from)
	}
	var text []byte
	err := f.repeatedly(ctx, func() (progress bool, err error) {
		text, err = f.text(ctx, from, limit)
		return false, err
	})
	return text, err
}

func (f Fetcher) text(ctx context.Context, from string, limit int64) ([]byte, error) {
	ctx, watch := f.watch(ctx)
	defer watch.stop()
	response, err := f.get(ctx, from, nil, func(r *http.Request, _ []*http.Request) error {
		if r.URL.Scheme != "https" {
			return errDowngrade
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, &HTTPError{from, response.Status, response.StatusCode}
	}
	text, err := io.ReadAll(io.LimitReader(watch.reader(response.Body), limit+1))
	if err != nil {
		return nil, f.netError(ctx, from, err)
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("get %s: got more than %d bytes, which is no list of checksums", from, limit)
	}
	return text, nil
}

// mostRedirects is how many redirects are followed.
const mostRedirects = 10

// get sends a request. The caller closes the body.
func (f Fetcher) get(ctx context.Context, from string, header http.Header, redirect func(*http.Request, []*http.Request) error) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("User-Agent", cmp.Or(f.Agent, "qnet"))
	request.Header.Set("Accept-Encoding", "identity") // the file's own bytes, whose length and sum are known
	for key, values := range header {
		request.Header[key] = values
	}
	client := *f.client()
	client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) >= mostRedirects {
			return fmt.Errorf("redirected %d times", mostRedirects)
		}
		return redirect(r, via)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, f.netError(ctx, from, err)
	}
	return response, nil
}

// netError words an error of the connection. That of a caller who gives up stays as it is.
func (f Fetcher) netError(ctx context.Context, from string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	return &NetError{from, err}
}

func (f Fetcher) client() *http.Client {
	if f.Client != nil {
		return f.Client
	}
	return &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTime}).DialContext,
		TLSHandshakeTimeout:   dialTime,
		ResponseHeaderTimeout: f.stall(),
		DisableKeepAlives:     true, // one file, and the process may give up its rights afterwards
	}}
}

func (f Fetcher) stall() time.Duration {
	if f.Stall > 0 {
		return f.Stall
	}
	return defaultStall
}

// repeatedly calls try until it succeeds, or fails in a way that another try does not help,
// or a few times in a row without progress.
func (f Fetcher) repeatedly(ctx context.Context, try func() (progress bool, err error)) error {
	first := f.Pause
	if first <= 0 {
		first = defaultPause
	}
	pause := first
	came := false
	for left := tries; ; {
		progress, err := try()
		if progress {
			left, pause, came = tries, first, true
		}
		left--
		if err == nil || left <= 0 || !temporary(err) || !came && unreachable(err) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		pause *= 2
	}
}

// unreachable reports whether no name server, or no server, answered within dialTime. Where
// nothing has come before, the user waits for no second try.
func unreachable(err error) bool {
	var dial *net.OpError
	return errors.As(err, &dial) && dial.Op == "dial" && dial.Timeout()
}

// temporary reports whether another try may help.
func temporary(err error) bool {
	var status *HTTPError
	if errors.As(err, &status) {
		return status.temporary()
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound || errors.Is(err, errDowngrade) {
		return false
	}
	var network *NetError
	return errors.As(err, &network)
}
