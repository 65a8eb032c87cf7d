package node

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// containerLog writes what a container prints in the format that kubelets read
// for `kubectl logs`: time, stream, F, line.
type containerLog struct {
	mu   sync.Mutex
	file *os.File
	done sync.WaitGroup
}

func openLog(path string) (*containerLog, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, err
	}
	return &containerLog{file: file}, nil
}

// pipe answers a file to print to. The caller closes its copy once the process
// has it.
func (l *containerLog) pipe(stream string) (*os.File, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	l.done.Add(1)
	go func() {
		defer l.done.Done()
		defer reader.Close()
		l.copy(stream, reader)
	}()
	return writer, nil
}

func (l *containerLog) copy(stream string, from io.Reader) {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			l.write(stream, line)
		}
		if err != nil {
			return
		}
	}
}

func (l *containerLog) write(stream, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if line[len(line)-1] != '\n' {
		line += "\n"
	}
	// A full disk is no reason to stop a container.
	_, _ = fmt.Fprintf(l.file, "%s %s F %s", time.Now().UTC().Format(time.RFC3339Nano), stream, line)
}

// close waits until everything that was printed is written.
func (l *containerLog) close() {
	l.done.Wait()
	_ = l.file.Close()
}
