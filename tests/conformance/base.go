package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"text/template"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/network-policy-api/conformance/utils/kubernetes"
	"sigs.k8s.io/network-policy-api/conformance/utils/suite"
)

// The ports of the servers on the nodes' network; upstream's default.
const firstHostPort, hostPorts = 34345, 8

// setUp does what the suite's own set-up does, but for servers that the kernel
// cannot run.
func setUp(t *testing.T, all *suite.ConformanceTestSuite) {
	all.Applier.FS = all.FS
	for port := firstHostPort; port < firstHostPort+hostPorts; port++ {
		all.HostNetworkPorts = append(all.HostNetworkPorts, port)
	}
	all.Applier.HostNetworkPorts = all.HostNetworkPorts
	var namespaces, sets []string
	for _, object := range base(t, all) {
		if object.GetKind() == "StatefulSet" {
			namespaces, sets = append(namespaces, object.GetNamespace()), append(sets, object.GetName())
			if !hasSCTP() {
				leaveOutSCTP(t, &object)
			}
		}
		err := all.Client.Create(context.Background(), &object)
		if err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatalf("making %s %s: %v", object.GetKind(), object.GetName(), err)
		}
	}
	kubernetes.NamespacesMustBeReady(t, all.Client, all.TimeoutConfig, namespaces, sets)
}

func base(t *testing.T, all *suite.ConformanceTestSuite) []unstructured.Unstructured {
	file, err := all.FS.ReadFile(all.BaseManifests)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	form, err := template.New("base").Parse(string(file))
	if err == nil {
		err = form.Execute(&text, map[string]any{"HostNetworkPorts": all.HostNetworkPorts})
	}
	if err != nil {
		t.Fatal(err)
	}
	var objects []unstructured.Unstructured
	for decoder := yaml.NewYAMLOrJSONDecoder(&text, 4096); ; {
		var object unstructured.Unstructured
		switch err := decoder.Decode(&object); {
		case errors.Is(err, io.EOF):
			return objects
		case err != nil:
			t.Fatal(err)
		case len(object.Object) > 0:
			objects = append(objects, object)
		}
	}
}

func hasSCTP() bool {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, syscall.IPPROTO_SCTP)
	if err != nil {
		return false
	}
	_ = syscall.Close(socket)
	return true
}

// leaveOutSCTP takes the containers away that are told to serve SCTP.
func leaveOutSCTP(t *testing.T, set *unstructured.Unstructured) {
	path := []string{"spec", "template", "spec", "containers"}
	containers, _, err := unstructured.NestedSlice(set.Object, path...)
	if err != nil {
		t.Fatal(err)
	}
	var others []any
	for _, container := range containers {
		if !speaksSCTP(container) {
			others = append(others, container)
		}
	}
	if err := unstructured.SetNestedSlice(set.Object, others, path...); err != nil {
		t.Fatal(err)
	}
}

func speaksSCTP(container any) bool {
	object, _ := container.(map[string]any)
	variables, _, _ := unstructured.NestedSlice(object, "env")
	for _, variable := range variables {
		name, _, _ := unstructured.NestedString(variable.(map[string]any), "name")
		if strings.HasPrefix(name, "SERVE_SCTP") {
			return true
		}
	}
	return false
}
