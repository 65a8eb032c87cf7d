package node

import (
	"context"
	"fmt"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// image is what stands in for a container image: a way to call a program of the
// machine. No image is pulled; the root file system of every container is a
// throw-away layer over the machine's.
type image struct {
	// entrypoint and arguments are what the image would declare.
	entrypoint []string
	arguments  []string
	// programs are links at the root of the container: name to program in the
	// folder of images.
	programs map[string]string
}

// images are those that the suite's network specs and the lab itself use, by
// the last part of their name.
var images = map[string]image{
	"agnhost": {entrypoint: []string{"/agnhost"}, arguments: []string{"pause"}, programs: map[string]string{"agnhost": "agnhost"}},
	"pause":   {entrypoint: []string{"/agnhost", "pause"}, programs: map[string]string{"agnhost": "agnhost"}},
	"busybox": {arguments: []string{"sh"}},
	// Pods with nothing but the tools of a node.
	"distroless-iptables":    {},
	"regression-issue-74839": {entrypoint: []string{"/regression-issue-74839"}, programs: map[string]string{"regression-issue-74839": "regression-issue-74839"}},
	"coredns":                {entrypoint: []string{"/coredns"}, programs: map[string]string{"coredns": "coredns"}},
}

// imageName answers the last part of an image reference, without tag and digest.
func imageName(reference string) string {
	last := reference[strings.LastIndex(reference, "/")+1:]
	last, _, _ = strings.Cut(last, "@")
	last, _, _ = strings.Cut(last, ":")
	return last
}

// imageService has the images of the table and can pull no other.
type imageService struct{}

func (imageService) ListImages(context.Context, *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	return nil, nil
}

func (imageService) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	if _, known := images[imageName(spec.Image)]; !known {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	return &runtimeapi.ImageStatusResponse{Image: &runtimeapi.Image{
		Id: spec.Image, RepoTags: []string{spec.Image}, Size: 1, Spec: spec,
	}}, nil
}

func (imageService) PullImage(_ context.Context, spec *runtimeapi.ImageSpec, _ *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	if _, known := images[imageName(spec.Image)]; !known {
		return "", fmt.Errorf("the lab has nothing that stands in for the image %s", spec.Image)
	}
	return spec.Image, nil
}

func (imageService) RemoveImage(context.Context, *runtimeapi.ImageSpec) error { return nil }

func (imageService) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	return &runtimeapi.ImageFsInfoResponse{}, nil
}

func (imageService) Close(context.Context) error { return nil }
