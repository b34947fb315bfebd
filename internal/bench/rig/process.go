package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// Sh runs a shell script that must succeed within a minute.
func Sh(script string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", script)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", script, err, out)
	}
	return nil
}

// Daemon is a program that runs until Stop.
type Daemon struct{ *exec.Cmd }

// Background starts a program.
func Background(argv ...string) (Daemon, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	return Daemon{cmd}, cmd.Start()
}

// Stop kills the program and waits for its end.
func (d Daemon) Stop() {
	d.Process.Kill() // it may have ended
	d.Wait()
}

// Eventually waits until ok holds.
func Eventually(what string, within time.Duration, ok func() bool) error {
	for end := time.Now().Add(within); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return errors.New(what + ": not within " + within.String())
		}
	}
	return nil
}

// Figures runs a command that prints numbers.
func Figures(argv ...string) ([]float64, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	var list []float64
	for _, word := range strings.Fields(string(out)) {
		f, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// Run runs a command and returns how long it took.
func Run(argv ...string) (time.Duration, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(begin)
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return took, err
}
