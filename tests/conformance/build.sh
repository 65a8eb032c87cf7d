#!/bin/sh
# Builds the program `conformance` once per content of this folder, as
# ../cluster/build.sh does, and prints its path as the last line of standard
# output. Beside it lies the CustomResourceDefinition of the same module.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${CLUSTER_CACHE:-$here/../../target/cluster}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
cd "$here"

say() { echo "conformance: $*" >&2; }

command -v go >/dev/null || { say "the Go toolchain is missing: install Go $(sed -n 's/^go //p' go.mod) or newer (https://go.dev/dl)"; exit 1; }

export CGO_ENABLED=0
hash=$({ go version; cat build.sh go.mod go.sum ./*.go; } | sha256sum | cut -c1-16)
out=$cache/conformance/$hash
if [ ! -x "$out/conformance" ]; then
	mkdir -p "$cache/conformance"
	# One build at a time; who waited finds it done.
	exec 9>"$cache/lock"
	flock 9
	if [ ! -x "$out/conformance" ]; then
		say "building (a minute or two when cold; once per content of tests/conformance)"
		began=$(date +%s)
		rm -rf "$out.new"
		mkdir "$out.new"
		nice -n 10 go build -p=2 -trimpath -buildvcs=false -ldflags "-s -w" -o "$out.new/conformance" . >&2 9>&-
		module=$(go list -m -f '{{.Dir}}' sigs.k8s.io/network-policy-api)
		# The channel that has all fields.
		cp "$module/config/crd/experimental/policy.networking.k8s.io_clusternetworkpolicies.yaml" "$out.new/crd.yaml"
		mv -T "$out.new" "$out"
		say "built in $(($(date +%s) - began))s: $out/conformance"
	fi
fi
echo "$out/conformance"
