package controlplane

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestADirectoryIsTakenOverFromAClusterThatIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made")
	first, err := openDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.announce("https://127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	if err := first.write("etcd.log", []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := first.lock.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := openDirectory(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.lock.Close()
	entries, err := os.ReadDir(path)
	if err != nil || len(entries) != 1 || entries[0].Name() != "lock" {
		t.Errorf("left over: %v, error %v", entries, err)
	}
}

func TestADirectoryThatIsInUseOrOfSomebodyElseOrTooLongIsRefused(t *testing.T) {
	busy := filepath.Join(t.TempDir(), "busy")
	holder, err := openDirectory(busy)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.lock.Close()
	foreign := t.TempDir()
	if err := os.WriteFile(filepath.Join(foreign, "etcd.log"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		busy:                                 "is used by a cluster that runs",
		foreign:                              "holds files that are not a cluster's",
		"/tmp/" + strings.Repeat("long", 30): "is too long",
	} {
		if _, err := openDirectory(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
	if content, err := os.ReadFile(filepath.Join(foreign, "etcd.log")); string(content) != "precious" {
		t.Errorf("a foreign file was touched: %q, %v", content, err)
	}
}
