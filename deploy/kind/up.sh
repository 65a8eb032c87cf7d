#!/bin/sh
# A kind cluster whose Services Sluice serves. Needs kind, kubectl, a container engine, and the image's archive:
#
#   cargo xtask image        # target/image/sluice.tar
#   deploy/kind/up.sh
#
# kindnetd asks the API server by the ClusterIP of `kubernetes` where there is no kube-proxy: until Sluice serves it,
# nodes are not ready and no other pod starts. Sluice itself waits for nothing of that.
set -eu
cd "$(dirname "$0")/../.."

archive=${1:-target/image/sluice.tar}
[ -f "$archive" ] || { echo "there is no $archive: run cargo xtask image" >&2; exit 1; }

kind create cluster --config deploy/kind/cluster.yaml
kind load image-archive "$archive" --name sluice
kubectl --context kind-sluice apply -f deploy/manifests/kind.yaml
kubectl --context kind-sluice -n kube-system rollout status daemonset/sluice --timeout=3m
kubectl --context kind-sluice wait node --all --for=condition=Ready --timeout=3m

# What it serves, as the node of the first agent sees it.
kubectl --context kind-sluice -n kube-system exec daemonset/sluice -- /proxyctl status
kubectl --context kind-sluice -n kube-system exec daemonset/sluice -- /proxyctl service list
