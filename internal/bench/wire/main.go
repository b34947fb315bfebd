// Command wire sends and receives what the bench measures, in guests and on the host.
//
//	wire serve ADDRESS          serve what follows, on one TCP and UDP port
//	wire up ADDRESS             MB/s from here to there, TCP
//	wire down ADDRESS           MB/s from there to here, TCP
//	wire rr ADDRESS             microseconds for a request of 1 byte and its answer, TCP
//	wire connect ADDRESS        microseconds for a connection with a request and answer of 1 byte
//	wire packets-up ADDRESS     datagrams of 64 bytes per second that arrive there
//	wire packets-down ADDRESS   the same, here
//	wire lease LINK             milliseconds from DISCOVER to ACK
//	wire shell ADDRESS          a shell that talks to ADDRESS
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/qnet-vm/qnet/internal/bench/lease"
)

// length of a measurement.
const length = 400 * time.Millisecond

const (
	bulk = 64 << 10 // of a TCP write
	tiny = 64       // of a datagram
)

var commands = map[string]func(address string) (float64, error){
	"up": up, "down": down, "rr": roundTrips, "connect": connections, "packets-up": packetsUp, "packets-down": packetsDown, "lease": firstLease, "shell": shell, "serve": serve,
}

func main() {
	if len(os.Args) != 3 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "wire: see the source")
		os.Exit(2)
	}
	figure, err := commands[os.Args[1]](os.Args[2])
	if err != nil {
		fmt.Fprintf(os.Stderr, "wire: %v\n", err)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stdout, "%f\n", figure)
}

// ask opens a connection. Its first line tells the server what to do.
func ask(address, what string) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = fmt.Fprintln(c, what)
	return c.(*net.TCPConn), err
}

func up(address string) (float64, error) {
	c, err := ask(address, "up")
	if err != nil {
		return 0, err
	}
	b := make([]byte, bulk)
	for begin := time.Now(); time.Since(begin) < length; {
		if _, err := c.Write(b); err != nil {
			return 0, err
		}
	}
	if err := c.CloseWrite(); err != nil {
		return 0, err
	}
	var rate float64
	_, err = fmt.Fscan(c, &rate) // as the server measured it
	return rate, err
}

func down(address string) (float64, error) {
	c, err := ask(address, "down")
	if err != nil {
		return 0, err
	}
	return drain(c)
}

// drain reads to the end and returns MB/s.
func drain(r io.Reader) (float64, error) {
	b := make([]byte, 4*bulk)
	if _, err := r.Read(b); err != nil { // the clock runs from the first byte
		return 0, err
	}
	begin := time.Now()
	total, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, b)
	if err != nil {
		return 0, err
	}
	return float64(total) / 1e6 / time.Since(begin).Seconds(), nil
}

func roundTrips(address string) (float64, error) {
	c, err := ask(address, "rr")
	if err != nil {
		return 0, err
	}
	b := make([]byte, 1)
	n := 0
	begin := time.Now()
	for ; time.Since(begin) < length; n++ {
		if _, err := c.Write(b); err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(begin).Microseconds()) / float64(n), nil
}

func connections(address string) (float64, error) {
	n := 0
	begin := time.Now()
	for ; time.Since(begin) < length; n++ {
		c, err := ask(address, "rr\nx")
		if err != nil {
			return 0, err
		}
		_, err = io.ReadFull(c, make([]byte, 1))
		c.Close()
		if err != nil {
			return 0, err
		}
	}
	return float64(time.Since(begin).Microseconds()) / float64(n), nil
}

func packetsUp(address string) (float64, error) {
	control, err := ask(address, "count")
	if err != nil {
		return 0, err
	}
	var before, after float64
	if _, err := fmt.Fscan(control, &before); err != nil {
		return 0, err
	}
	c, err := net.Dial("udp", address)
	if err != nil {
		return 0, err
	}
	blast(c)
	time.Sleep(50 * time.Millisecond) // for datagrams on their way
	if control, err = ask(address, "count"); err != nil {
		return 0, err
	}
	if _, err := fmt.Fscan(control, &after); err != nil {
		return 0, err
	}
	return (after - before) / length.Seconds(), nil
}

// blast sends tiny datagrams for a while. The kernel drops those that do not fit.
func blast(c net.Conn) {
	b := make([]byte, tiny)
	for begin := time.Now(); time.Since(begin) < length; {
		for range 16 {
			c.Write(b) // an error is a loss
		}
	}
}

func packetsDown(address string) (float64, error) {
	c, err := net.Dial("udp", address)
	if err != nil {
		return 0, err
	}
	if _, err := c.Write([]byte("go")); err != nil {
		return 0, err
	}
	b := make([]byte, 2*tiny)
	n := 0
	for {
		c.SetReadDeadline(time.Now().Add(length / 2))
		if _, err := c.Read(b); err != nil {
			return float64(n) / length.Seconds(), nil //nolint:nilerr // the sender has stopped
		}
		n++
	}
}

func firstLease(name string) (float64, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	took, err := lease.Take(link.Index, []net.HardwareAddr{link.HardwareAddr}, 1)
	return float64(took.Microseconds()) / 1000, err
}

func shell(address string) (float64, error) {
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command("sh")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c, c, c
	return 0, cmd.Run()
}

// received counts datagrams.
var received atomic.Int64

func serve(address string) (float64, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return 0, err
	}
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return 0, err
	}
	go serveDatagrams(udp.(*net.UDPConn), address)
	for {
		c, err := l.Accept()
		if err != nil {
			return 0, err
		}
		go serveConnection(c.(*net.TCPConn))
	}
}

func serveDatagrams(c *net.UDPConn, _ string) {
	c.SetReadBuffer(4 << 20) // as much as the kernel gives
	b := make([]byte, 2*tiny)
	for {
		n, from, err := c.ReadFromUDPAddrPort(b)
		switch {
		case err != nil:
			return
		case n == 2: // "go"
			go func() {
				out := make([]byte, tiny)
				for begin := time.Now(); time.Since(begin) < length; {
					for range 16 {
						c.WriteToUDPAddrPort(out, from) // an error is a loss
					}
				}
			}()
		default:
			received.Add(1)
		}
	}
}

func serveConnection(c *net.TCPConn) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 16)
	what, err := in.ReadString('\n')
	if err != nil {
		return
	}
	switch what {
	case "up\n":
		if rate, err := drain(in); err == nil {
			fmt.Fprintln(c, rate)
		}
	case "down\n":
		b := make([]byte, bulk)
		for begin := time.Now(); time.Since(begin) < length; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	case "rr\n":
		io.Copy(c, in) // until the other end closes
	case "count\n":
		fmt.Fprintln(c, received.Load())
	}
}
