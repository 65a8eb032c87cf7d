#!/bin/sh
# Builds the program `cluster`, or with the argument `suite` the program of that
# name, or with `kubelet` upstream's, once per content of this folder and prints
# its path as the last line of standard output; progress goes to standard error. Next to it lie links that
# pick a command by name: kubectl, agnhost, and so on; next to `suite`, in the
# folder images, the programs that container images are made of.
#
#   CLUSTER_CACHE  where builds are kept; default target/cluster in the repository
#
# A cold build takes some minutes and, linking, 2.3 GiB of memory; it runs at a
# low priority on two cores so that other work goes on.
set -eu

name=${1:-cluster}
case $name in
cluster) package=. links="etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl agnhost" ;;
suite) package=./suite links="kubelet specs" ;;
kubelet) package=k8s.io/kubernetes/cmd/kubelet links="" ;;
*) echo "usage: build.sh [cluster|suite|kubelet]" >&2; exit 2 ;;
esac

here=$(cd "$(dirname "$0")" && pwd)
cache=${CLUSTER_CACHE:-$here/../../target/cluster}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
cd "$here"

say() { echo "cluster: $*" >&2; }

command -v go >/dev/null || { say "the Go toolchain is missing: install Go $(sed -n 's/^go //p' go.mod) or newer (https://go.dev/dl)"; exit 1; }

# The same flags for every use of the module: -trimpath is part of the key of
# Go's build cache, and without it all of Kubernetes is compiled again.
export CGO_ENABLED=0
flags="-p=2 -trimpath -buildvcs=false"

hash=$({ go version; cat build.sh go.mod go.sum; find . -name '*.go' ! -name '*_test.go' | LC_ALL=C sort | while read -r file; do echo "$file"; cat "$file"; done; } | sha256sum | cut -c1-16)
out=$cache/$hash
[ "$name" = cluster ] || out=$out-$name
if [ -x "$out/$name" ]; then
	touch "$out" # the least recently used builds are dropped
	echo "$out/$name"
	exit 0
fi

# One build at a time; who waited finds it done.
exec 9>"$cache/lock"
flock 9
if [ ! -x "$out/$name" ]; then
	version=$(sed -n 's,^[[:space:]]*k8s.io/kubernetes \(v[0-9.]*\)$,\1,p' go.mod)
	minor=$(echo "$version" | cut -d. -f2)
	about=k8s.io/component-base/version
	say "building $name of Kubernetes $version (minutes when cold; once per content of tests/cluster)"
	rm -rf "$out.new"
	mkdir "$out.new"
	log=$cache/build-$name.log
	total=$(go list -deps $package | wc -l)
	began=$(date +%s)
	# -v prints each package as it is compiled; the sum of them is the progress.
	# A pipe would lose the exit code, so the build runs beside its watcher.
	# shellcheck disable=SC2086
	nice -n 10 go build $flags -v -ldflags "-s -w -X $about.gitVersion=$version -X $about.gitMajor=1 -X $about.gitMinor=$minor" \
		-o "$out.new/$name" $package >"$log" 2>&1 9>&- &
	build=$!
	trap 'kill $build 2>/dev/null' INT TERM
	while kill -0 $build 2>/dev/null; do
		sleep 1
		now=$(($(date +%s) - began))
		[ $((now % 15)) -ne 0 ] || say "${now}s, $(wc -l <"$log") packages compiled of at most $total"
	done
	if ! wait $build; then
		rm -rf "$out.new"
		say "the build failed or was interrupted; $log says, besides the packages it compiled:"
		grep -Ev '^[[:alnum:]./_~-]+$' "$log" | tail -n 30 >&2
		exit 1
	fi
	for link in $links; do
		ln -s "$name" "$out.new/$link"
	done
	if [ "$name" = suite ]; then
		mkdir "$out.new/images"
		ln -s ../suite "$out.new/images/coredns"
		for image in agnhost regression-issue-74839; do
			# shellcheck disable=SC2086
			nice -n 10 go build $flags -ldflags "-s -w" -o "$out.new/images/$image" "k8s.io/kubernetes/test/images/$image"
		done
	fi
	mv -T "$out.new" "$out"
	say "built in $(($(date +%s) - began))s: $out/$name"
	# Each build is 140 MB: keep the newest three of each.
	ls -1dt "$cache"/*/ | tail -n +10 | while read -r old; do rm -rf "$old"; done
fi
echo "$out/$name"
