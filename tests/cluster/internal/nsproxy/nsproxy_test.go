package nsproxy

import "testing"

func TestADoorIsANamespaceAndAnAddress(t *testing.T) {
	for argument, want := range map[string]door{
		"node-a=127.0.0.1:6443":        {"/run/netns/node-a", "127.0.0.1:6443"},
		"/proc/7/ns/net=[::1]:6443":    {"/proc/7/ns/net", "[::1]:6443"},
		"/run/lab/a=b=127.0.0.1:6443":  {"/run/lab/a=b", "127.0.0.1:6443"},
		"../../etc/x=127.0.0.1:6443":   {"/run/netns/x", "127.0.0.1:6443"},
		"/run/netns/n=localhost:https": {"/run/netns/n", "localhost:https"},
	} {
		got, err := parseDoor(argument)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", argument, got, err, want)
		}
	}
}

func TestADoorWithoutNamespaceOrPortIsRefused(t *testing.T) {
	for _, argument := range []string{"", "node-a", "=127.0.0.1:6443", "node-a=127.0.0.1", "node-a=::1:6443"} {
		if got, err := parseDoor(argument); err == nil {
			t.Errorf("%q was taken as %+v", argument, got)
		}
	}
}
