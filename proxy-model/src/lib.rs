//! Cluster facts in, desired map entries out. Knows no Kubernetes library, no kernel, no clock.
