//! The directory as a table of contents, and the watch with real files.

use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Manifests;
use super::directory::{Directory, Touched};
use crate::source::{Contact, Kind, Update, channel};

fn service(name: &str, ip: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: {ip}}}\n---\n")
}

/// Writes as a careful writer does: a new file renamed over the old one.
fn replace(dir: &Path, name: &str, text: &str) {
    let hidden = dir.join(format!(".{name}.new"));
    std::fs::write(&hidden, text).unwrap();
    std::fs::rename(hidden, dir.join(name)).unwrap();
}

fn told(update: &Update) -> String {
    match update {
        Update::Put(key, parsed) => {
            let text = format!("{:?}", parsed.fact);
            let ip = text.split("cluster_ips: ").nth(1).and_then(|rest| rest.split(", ports").next());
            format!("{key} {}", ip.unwrap_or(""))
        }
        Update::Delete(key) => format!("-{key}"),
        Update::Synced(kind) => format!("synced {}", kind.name()),
        Update::Misshapen(problem) => problem.to_string(),
        Update::UnreadableFiles(count) => format!("unreadable {count}"),
        Update::Extent(extent) => format!("told {extent:?}"),
        Update::Contact(Contact::Current) => "current".into(),
        Update::Contact(Contact::LostSince(_)) => "lost".into(),
    }
}

fn refresh(directory: &mut Directory) -> (Vec<String>, Vec<String>) {
    let outcome = directory.refresh(&Touched::Any).unwrap();
    (outcome.updates.iter().map(told).collect(), outcome.problems.iter().map(ToString::to_string).collect())
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn only_what_differs_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut directory = Directory::new(dir.path());
    replace(dir.path(), "a.yaml", &(service("one", "10.0.0.1") + &service("two", "10.0.0.2")));
    replace(dir.path(), "b.txt", "not read");
    assert_eq!(
        refresh(&mut directory),
        (vec!["Service default/one [10.0.0.1]".into(), "Service default/two [10.0.0.2]".into()], none())
    );
    assert_eq!(refresh(&mut directory), (none(), none()));

    replace(dir.path(), "a.yaml", &(service("one", "10.0.0.1") + &service("three", "10.0.0.3")));
    assert_eq!(
        refresh(&mut directory),
        (vec!["Service default/three [10.0.0.3]".into(), "-Service default/two".into()], none())
    );
    std::fs::remove_file(dir.path().join("a.yaml")).unwrap();
    assert_eq!(
        refresh(&mut directory),
        (vec!["-Service default/one".into(), "-Service default/three".into()], none())
    );
}

#[test]
fn a_file_that_cannot_be_read_in_full_takes_nothing_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut directory = Directory::new(dir.path());
    replace(dir.path(), "a.yaml", &(service("one", "10.0.0.1") + &service("two", "10.0.0.2")));
    replace(dir.path(), "b.yaml", &service("other", "10.0.0.9"));
    refresh(&mut directory);

    // `one` changes, `two` has become unreadable.
    replace(dir.path(), "a.yaml", &(service("one", "10.0.0.7") + "kind: Service\nmetadata: [\n"));
    let (updates, problems) = refresh(&mut directory);
    assert_eq!(updates, ["Service default/one [10.0.0.7]", "unreadable 1"]);
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert!(problem.starts_with("a.yaml, document 2: "), "{problem}");
    assert!(problem.ends_with("; what it said last stays"), "{problem}");

    // Repaired without `two`: now it is really gone.
    replace(dir.path(), "a.yaml", &service("one", "10.0.0.7"));
    assert_eq!(refresh(&mut directory), (vec!["-Service default/two".into(), "unreadable 0".into()], none()));
}

#[test]
fn what_was_never_read_since_the_start_is_said_until_it_is_read_or_removed() {
    let dir = tempfile::tempdir().unwrap();
    let bad = "kind: Service\nmetadata: [\n";
    for name in ["a.yaml", "b.yaml", "c.yaml"] {
        replace(dir.path(), name, bad);
    }
    replace(dir.path(), "d.yaml", &service("one", "10.0.0.1"));
    let mut directory = Directory::new(dir.path());
    let first = ["Service default/one [10.0.0.1]", "unreadable 3", "told Part"];
    assert_eq!(refresh(&mut directory).0, first);

    replace(dir.path(), "a.yaml", &service("two", "10.0.0.2"));
    std::fs::remove_file(dir.path().join("b.yaml")).unwrap();
    assert_eq!(refresh(&mut directory).0, ["Service default/two [10.0.0.2]", "unreadable 1"]);
    // Read once, this file cannot lose anything any more.
    replace(dir.path(), "a.yaml", bad);
    assert_eq!(refresh(&mut directory).0, ["unreadable 2"]);
    replace(dir.path(), "c.yaml", &service("three", "10.0.0.3"));
    let last = ["Service default/three [10.0.0.3]", "unreadable 1", "told Whole"];
    assert_eq!(refresh(&mut directory).0, last);
    replace(dir.path(), "e.yaml", bad);
    assert_eq!(refresh(&mut directory).0, ["unreadable 2"]);
}

/// What a look at the directory tells of objects, and what is wrong with them.
fn facts(directory: &mut Directory) -> (Vec<String>, Vec<String>) {
    let outcome = directory.refresh(&Touched::Any).unwrap();
    let fact = |update: &Update| match update {
        Update::Put(_, parsed) => Some(format!("{:?}", parsed.fact)),
        Update::Delete(_)
        | Update::Misshapen(_)
        | Update::Synced(_)
        | Update::UnreadableFiles(_)
        | Update::Extent(_)
        | Update::Contact(_) => None,
    };
    let facts = outcome.updates.iter().filter_map(fact).collect();
    (facts, outcome.problems.iter().map(ToString::to_string).collect())
}

/// A policy that isolates its namespace and allows nothing.
fn is_closed(fact: &str) -> bool {
    ["types: Some({Ingress, Egress})", "ingress: []", "egress: []", "labels: {}, expressions: []"]
        .iter()
        .all(|part| fact.contains(part))
}

/// Policy item 58: what Kubernetes calls so is closed until it is understood, and what others call so is nobody's rule here.
#[test]
fn a_policy_of_another_version_allows_nothing_and_one_of_another_group_is_left_to_others() {
    for (version, is_meant) in [
        ("apiVersion: networking.k8s.io/v2", true),
        ("apiVersion: networking.k8s.io/v1beta1", true),
        ("apiVersion: extensions/v1beta1", true),
        ("apiVersion: v1", true),
        ("metadata: {name: guard}", true),
        ("apiVersion: [v1]", true),
        ("apiVersion: crd.projectcalico.org/v1", false),
        ("apiVersion: projectcalico.org/v3", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let metadata = if version.starts_with("metadata") { "" } else { "metadata: {name: guard}" };
        let text = format!(
            "{version}\nkind: NetworkPolicy\n{metadata}\nspec: {{podSelector: {{}}, ingress: [{{}}]}}\n"
        );
        replace(dir.path(), "a.yaml", &text);
        let (facts, problems) = facts(&mut Directory::new(dir.path()));
        let closed: Vec<bool> = facts.iter().map(|fact| is_closed(fact)).collect();
        assert_eq!(closed, vec![true; usize::from(is_meant)], "{version}: {facts:?}");
        let named = "a.yaml, document 1, NetworkPolicy guard, apiVersion: ";
        assert!(problems.len() == 1 && problems[0].starts_with(named), "{problems:?}");
    }
}

/// Policy item 58.
#[test]
fn a_policy_that_cannot_be_decoded_allows_nothing_unless_an_older_reading_of_it_is_known() {
    let policy = |spec: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: guard}}\nspec: {spec}\n---\n"
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let mut directory = Directory::new(dir.path());
    let broken = policy("{policyTypes: Ingress, ingress: [{}]}");
    replace(dir.path(), "a.yaml", &(broken.clone() + &service("one", "10.0.0.1")));
    let (closed, problems) = facts(&mut directory);
    let [_service, policy_fact] = &closed[..] else { panic!("{closed:?}") };
    assert!(is_closed(policy_fact), "{policy_fact}");
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    let named = "a.yaml, document 1, NetworkPolicy guard, spec.policyTypes: invalid type: string \"Ingress\"";
    assert!(problem.starts_with(named), "{problem}");
    // Mended, and broken again: what it said last stays.
    replace(
        dir.path(),
        "a.yaml",
        &(policy("{policyTypes: [Ingress], ingress: [{}]}") + &service("one", "10.0.0.1")),
    );
    let (open, problems) = facts(&mut directory);
    assert_eq!((open.len(), problems), (1, none()));
    assert!(open[0].contains("types: Some({Ingress})"), "{open:?}");
    replace(dir.path(), "a.yaml", &(broken + &service("one", "10.0.0.1")));
    let (stays, problems) = facts(&mut directory);
    assert_eq!((stays, problems.len()), (none(), 1));
}

#[test]
fn of_an_object_in_two_files_the_first_by_name_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut directory = Directory::new(dir.path());
    replace(dir.path(), "b.yaml", &service("one", "10.0.0.2"));
    assert_eq!(refresh(&mut directory).0, ["Service default/one [10.0.0.2]"]);
    replace(dir.path(), "a.yaml", &service("one", "10.0.0.1"));
    assert_eq!(
        refresh(&mut directory),
        (
            vec!["Service default/one [10.0.0.1]".into()],
            vec!["b.yaml: Service default/one is in a.yaml, too; that one counts".into()]
        )
    );
    std::fs::remove_file(dir.path().join("a.yaml")).unwrap();
    assert_eq!(refresh(&mut directory).0, ["Service default/one [10.0.0.2]"]);
}

/// Updates until nothing more is expected; a deadline instead of a sleep.
async fn next(updates: &mut mpsc::Receiver<Update>) -> String {
    let update = tokio::time::timeout(Duration::from_secs(10), updates.recv()).await;
    told(&update.expect("an update within ten seconds").expect("the source runs"))
}

#[tokio::test]
async fn changes_are_told_as_they_happen_and_a_lost_directory_loses_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("manifests");
    std::fs::create_dir(&dir).unwrap();
    replace(&dir, "a.yaml", &service("one", "10.0.0.1"));

    let (feed, mut updates) = channel();
    let task = tokio::spawn(Manifests::open(&dir).unwrap().run(feed));
    assert_eq!(next(&mut updates).await, "Service default/one [10.0.0.1]");
    for kind in Kind::ALL {
        assert_eq!(next(&mut updates).await, format!("synced {}", kind.name()));
    }
    assert_eq!(next(&mut updates).await, "current");

    replace(&dir, "a.yaml", &service("one", "10.0.0.2"));
    assert_eq!(next(&mut updates).await, "Service default/one [10.0.0.2]");
    std::fs::write(dir.join("b.json"), r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"}}"#)
        .unwrap();
    assert_eq!(next(&mut updates).await, "Node n1 ");
    std::os::unix::fs::symlink(dir.join("missing"), dir.join("c.yaml")).unwrap();
    assert_eq!(next(&mut updates).await, "unreadable 1");
    std::fs::remove_file(dir.join("b.json")).unwrap();
    assert_eq!(next(&mut updates).await, "-Node n1");

    let away = parent.path().join("away");
    std::fs::rename(&dir, &away).unwrap();
    assert_eq!(next(&mut updates).await, "lost");
    replace(&away, "a.yaml", &service("one", "10.0.0.3"));
    std::fs::rename(&away, &dir).unwrap();
    let mut later = next(&mut updates).await;
    while later == "lost" {
        later = next(&mut updates).await;
    }
    assert_eq!(later, "current");
    assert_eq!(next(&mut updates).await, "Service default/one [10.0.0.3]");
    task.abort();
}

#[tokio::test]
async fn a_mounted_configmap_is_read_anew_when_its_link_moves() {
    let dir = tempfile::tempdir().unwrap();
    for (version, ip) in [("v1", "10.0.0.1"), ("v2", "10.0.0.2")] {
        std::fs::create_dir(dir.path().join(version)).unwrap();
        std::fs::write(dir.path().join(version).join("a.yaml"), service("one", ip)).unwrap();
    }
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
    link("v1", "..data");
    link("..data/a.yaml", "a.yaml");

    let (feed, mut updates) = channel();
    let task = tokio::spawn(Manifests::open(dir.path()).unwrap().run(feed));
    assert_eq!(next(&mut updates).await, "Service default/one [10.0.0.1]");
    while next(&mut updates).await != "current" {}
    link("v2", "..data_tmp");
    std::fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    assert_eq!(next(&mut updates).await, "Service default/one [10.0.0.2]");
    task.abort();
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_an_error_that_names_it() {
    let error = Manifests::open(Path::new("/nonexistent/manifests")).err().unwrap();
    assert_eq!(error.to_string(), "--manifests /nonexistent/manifests: the directory cannot be read");
}
