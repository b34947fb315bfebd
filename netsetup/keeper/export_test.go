package keeper

import (
	"os"
	"os/exec"
)

// StartConfined is startConfined.
func StartConfined(cmd *exec.Cmd, program *os.File) error { return startConfined(cmd, program) }

// Forsake keeps the registration from starting another keeper, as if its supervisor
// were dead.
func (r *Registration) Forsake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaving = true
}

// HangUp closes the connection, as the kernel does for a killed supervisor.
func (r *Registration) HangUp() { r.conn.Close() }

// Hold keeps the registration from rejoining until the returned function is called.
func (r *Registration) Hold() (release func()) {
	r.mu.Lock()
	return r.mu.Unlock
}

// VM is the name that the registration was made with.
func (r *Registration) VM() string { return r.vm }
