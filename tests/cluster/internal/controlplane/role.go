package controlplane

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// agentRole is all that an agent may do: read what it plans from, and write Events.
// Tests run with no more than this, so an agent that comes to need more is noticed.
func agentRole() *rbacv1.ClusterRole {
	read := []string{"list", "watch"}
	return &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: AgentUser},
		Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Verbs: read, Resources: []string{"services", "nodes", "namespaces", "pods"}},
			{APIGroups: []string{"discovery.k8s.io"}, Verbs: read, Resources: []string{"endpointslices"}},
			{APIGroups: []string{"networking.k8s.io"}, Verbs: read, Resources: []string{"networkpolicies", "servicecidrs"}},
			{APIGroups: []string{"policy.networking.k8s.io"}, Verbs: read, Resources: []string{"clusternetworkpolicies"}},
			{APIGroups: []string{"events.k8s.io"}, Verbs: []string{"create"}, Resources: []string{"events"}},
		},
	}
}

func grantAgentRole(ctx context.Context, client kubernetes.Interface) error {
	role := agentRole()
	if _, err := client.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err := client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: AgentUser},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: AgentUser}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
	}, metav1.CreateOptions{})
	return err
}
