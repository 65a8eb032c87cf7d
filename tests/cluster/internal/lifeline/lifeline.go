// Package lifeline tells a long-running command when to stop.
package lifeline

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Source says what, besides a signal, ends a command.
type Source string

const (
	// SignalsOnly: SIGTERM and SIGINT.
	SignalsOnly Source = "signals"
	// StdinEOF: also the end of standard input. A parent that holds the other
	// end of the pipe thereby takes the command along however it dies itself,
	// SIGKILL included.
	StdinEOF Source = "stdin"
)

// String is for the flag package.
func (s *Source) String() string { return string(*s) }

// Set is for the flag package.
func (s *Source) Set(value string) error {
	switch source := Source(value); source {
	case SignalsOnly, StdinEOF:
		*s = source
		return nil
	}
	return errors.New("want signals or stdin")
}

// Context ends as source says.
func Context(source Source) (context.Context, context.CancelFunc) {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	if source == StdinEOF {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	return ctx, cancel
}
