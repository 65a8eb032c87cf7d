package node

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// room is where the containers of one Pod run, as far as the network and the
// accounting of processes go.
type room struct {
	// Name is what the lab calls it; empty for the node's own room.
	Name string `json:"name"`
	// Netns is the file of its network namespace.
	Netns string `json:"netns"`
	// Cgroup is its cgroup2 folder.
	Cgroup string `json:"cgroup"`
	// IPs are its addresses, the primary one first.
	IPs []string `json:"ips"`
}

// landlord is the lab's answer to a CNI plugin: it makes rooms and takes them
// away. One request and one answer per connection, a line of JSON each.
type landlord struct {
	// socket is where the lab listens.
	socket string
	// node is the lab's name of this node.
	node string
	// own is the room of the node itself, for hostNetwork Pods.
	own room
}

type landlordRequest struct {
	Verb string `json:"verb"`
	Node string `json:"node"`
	Name string `json:"name"`
}

type landlordAnswer struct {
	room
	Error string `json:"error"`
}

// let makes a room with a network of its own. The name is unique in the lab.
func (l *landlord) let(name string) (room, error) {
	answer, err := l.ask(landlordRequest{Verb: "add", Node: l.node, Name: name})
	return answer.room, err
}

// share makes a room on the node's own network.
func (l *landlord) share(name string) (room, error) {
	shared := l.own
	shared.Cgroup = filepath.Join(l.own.Cgroup, name)
	return shared, os.MkdirAll(shared.Cgroup, 0o755)
}

// clear takes a room away and kills what still runs in it.
func (l *landlord) clear(r room) error {
	if r.Name != "" {
		_, err := l.ask(landlordRequest{Verb: "remove", Node: l.node, Name: r.Name})
		return err
	}
	if err := killAll(r.Cgroup); err != nil {
		return err
	}
	return removeCgroup(r.Cgroup)
}

func (l *landlord) ask(request landlordRequest) (landlordAnswer, error) {
	var answer landlordAnswer
	connection, err := net.Dial("unix", l.socket)
	if err != nil {
		return answer, fmt.Errorf("ask the lab: %w", err)
	}
	defer connection.Close()
	if err := json.NewEncoder(connection).Encode(request); err != nil {
		return answer, fmt.Errorf("ask the lab: %w", err)
	}
	line, err := bufio.NewReader(connection).ReadBytes('\n')
	if err != nil {
		return answer, fmt.Errorf("the lab's answer: %w", err)
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return answer, fmt.Errorf("the lab's answer: %w", err)
	}
	if answer.Error != "" {
		return answer, errors.New(answer.Error)
	}
	return answer, nil
}
