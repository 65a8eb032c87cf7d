// The program render prints what `helm template` would make of a chart, by Helm's own engine: with no
// cluster, no network and no installed helm. It knows nothing of the chart.
//
//	render [-n NAMESPACE] [-r RELEASE] [-f VALUES]... [-api GROUP/VERSION/KIND]... CHART
package main

import (
	"flag"
	"fmt"
	"os"
	"sort"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
)

// list is a flag that may be given again and again.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	var files, apis list
	namespace := flag.String("n", "kube-system", "namespace of the release")
	release := flag.String("r", "sluice", "name of the release")
	flag.Var(&files, "f", "file of values; a later one wins")
	flag.Var(&apis, "api", "kind that the cluster is said to have, as monitoring.coreos.com/v1/PodMonitor")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	text, err := render(flag.Arg(0), *release, *namespace, files, apis)
	if err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
	fmt.Print(text)
}

func render(dir, release, namespace string, files, apis []string) (string, error) {
	chart, err := loader.LoadDir(dir)
	if err != nil {
		return "", err
	}
	values := map[string]any{}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return "", err
		}
		more, err := loader.LoadValues(file)
		file.Close()
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		values = loader.MergeMaps(values, more)
	}
	capabilities := common.DefaultCapabilities.Copy()
	capabilities.APIVersions = append(capabilities.APIVersions, apis...)
	options := common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(chart, values, options, capabilities)
	if err != nil {
		return "", err
	}
	rendered, err := engine.Engine{Strict: true}.Render(chart, all)
	if err != nil {
		return "", err
	}
	for name := range rendered {
		if strings.HasSuffix(name, "NOTES.txt") {
			delete(rendered, name)
		}
	}
	_, manifests, err := releaseutil.SortManifests(rendered, capabilities.APIVersions, releaseutil.InstallOrder)
	if err != nil {
		return "", err
	}
	// Objects of one kind in the order of their names: the engine's own order is that of a map.
	sort.SliceStable(manifests, func(i, j int) bool {
		a, b := manifests[i], manifests[j]
		return a.Head.Kind == b.Head.Kind && a.Head.Metadata.Name < b.Head.Metadata.Name
	})
	var text strings.Builder
	for _, manifest := range manifests {
		fmt.Fprintf(&text, "---\n%s\n", strings.TrimSpace(manifest.Content))
	}
	return text.String(), nil
}
