//! A report as it is read and heard, from values made by hand; that no name becomes a part of the page; and the matrix
//! against the judge that it asks.

mod values;

use std::collections::BTreeMap;

use proxy_common::policy::Effect;
use proxy_common::{Port, Proto, RuleId, RuleSetId};

use self::values::page;
use super::matrix::{Extent, Matrix, matrix, stretches};
use super::render;
use crate::ctl::explain::{Connection, Road, Verdict, judge};
use crate::ctl::policy::fake::{Fake, allow};
use crate::ctl::policy::names::Names;
use crate::observe::policy_names::{
    Digest, Direction, PodLine, PolicyKind, PolicyName, PolicyNames, RuleLine, RuleSetLine, VERSION,
};

const EGRESS: RuleSetId = RuleSetId(20);
const INGRESS: RuleSetId = RuleSetId(21);

fn policy(name: &str) -> PolicyName {
    PolicyName { kind: PolicyKind::NetworkPolicy, namespace: Some("shop".into()), name: name.into() }
}

/// `client` may send TCP 8080 to web; both web pods take the client on 8080-8090, and 203.0.113.0/24 on all.
fn names() -> PolicyNames {
    let rule = |id, name, direction, text: &str| RuleLine {
        id: Digest(id),
        policy: policy(name),
        direction,
        index: 0,
        text: text.into(),
    };
    let set = |id, direction, name| RuleSetLine {
        id: Digest(id),
        direction,
        policies: vec![policy(name)],
        rules: vec![],
    };
    let pod = |name: &str, node: &str, ip: &str| PodLine {
        pod: format!("shop/{name}"),
        node: Some(node.into()),
        addresses: vec![ip.parse().unwrap()],
    };
    PolicyNames {
        version: VERSION,
        node: "n1".into(),
        rules: vec![
            rule(1, "client", Direction::Egress, "to web, TCP 8080"),
            rule(2, "web", Direction::Ingress, "from client, TCP 8080-8090"),
        ],
        rule_sets: vec![set(20, Direction::Egress, "client"), set(21, Direction::Ingress, "web")],
        pods: vec![
            pod("client", "n1", "10.244.0.5"),
            pod("web-1", "n1", "10.244.0.6"),
            pod("web-2", "n1", "10.244.0.7"),
            pod("far", "n2", "10.244.1.9"),
        ],
        ..PolicyNames::default()
    }
}

fn tables() -> Fake {
    let mut fake = Fake::default()
        .pod("10.244.0.5", EGRESS, RuleSetId::OPEN)
        .pod("10.244.0.6", RuleSetId::OPEN, INGRESS)
        .pod("10.244.0.7", RuleSetId::OPEN, INGRESS)
        .peer("10.244.0.5", 2)
        .peer("10.244.0.6", 1)
        .peer("10.244.0.7", 1)
        .says(EGRESS, 1, &[allow(1, Proto::TCP, 8080, 8080)])
        .says(INGRESS, 2, &[allow(2, Proto::TCP, 8080, 8090), allow(2, Proto::UDP, 53, 65_535)])
        .says_all(INGRESS, 3, &[], (RuleId(3), Effect::ALLOW));
    fake.own = vec!["192.0.2.1".parse().unwrap()];
    fake
}

pub(super) fn made() -> Matrix {
    matrix(&tables(), &Names::of(Some(names()))).unwrap()
}

#[test]
fn pods_that_rules_do_not_tell_apart_share_a_row_and_each_cell_says_who_decides() {
    let matrix = made();
    let parties: Vec<(&str, Vec<&str>)> = matrix
        .parties
        .iter()
        .map(|party| (&*party.name, party.more.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(
        parties,
        [
            ("shop/client", vec![]),
            ("shop/web-1", vec!["shop/web-2"]),
            ("node n1 itself", vec![]),
            ("a host outside, such as 198.51.100.1", vec![]),
        ]
    );
    let extents: Vec<Vec<Extent>> =
        matrix.rows.iter().map(|row| row.iter().map(super::matrix::Cell::extent).collect()).collect();
    use Extent::{All, Nobody, None, Some};
    assert_eq!(
        extents,
        [
            // A pod alone in its row is asked about itself.
            [All, Some, None, None],
            [All, None, All, All],
            [All, All, Nobody, Nobody],
            [All, None, Nobody, Nobody],
        ]
    );
    let answers: Vec<(&str, bool, &str, &str)> = matrix.rows[0][1]
        .answers
        .iter()
        .map(|answer| (&*answer.what, answer.allowed, &*answer.egress, &*answer.ingress))
        .collect();
    let sent = "allowed by NetworkPolicy shop/client egress rule 0: to web, TCP 8080";
    let taken = "allowed by NetworkPolicy shop/web ingress rule 0: from client, TCP 8080-8090";
    let not_sent = "denied: no rule of NetworkPolicy shop/client allows it; nearest: NetworkPolicy shop/client egress rule 0 \
        (to web, TCP 8080) allows this peer TCP 8080";
    let not_taken = |ports: &str| {
        format!(
            "denied: no rule of NetworkPolicy shop/web allows it; nearest: NetworkPolicy shop/web ingress rule 0 \
            (from client, TCP 8080-8090) allows this peer {ports}"
        )
    };
    let (near_tcp, near_udp) = (not_taken("TCP 8080-8090"), not_taken("UDP 53-65535"));
    assert_eq!(
        answers,
        [
            ("TCP 8080", true, sent, taken),
            ("TCP 1-8079, 8091-65535", false, not_sent, &near_tcp),
            ("TCP 8081-8090; UDP 53-65535", false, not_sent, taken),
            // Of other protocols none is nearer than another: the lowest port is.
            ("everything else", false, not_sent, &near_udp),
        ]
    );
}

/// Ports about which nobody asked would be told wrong if a stretch were too long.
#[test]
fn every_port_of_a_stretch_is_judged_as_its_first_one() {
    let (tables, names) = (tables(), Names::of(Some(names())));
    let ips = ["10.244.0.5", "10.244.0.6", "10.244.1.9", "198.51.100.1"].map(|ip| ip.parse().unwrap());
    let mut asked = 0;
    for (src, dst) in ips.iter().flat_map(|src| ips.iter().map(move |dst| (*src, *dst))) {
        for ((allowed, _, _), spans) in stretches(&tables, &names, src, dst).unwrap() {
            for span in spans {
                let Some(proto) = span.proto else { continue };
                for number in (span.first..=span.last).step_by(997).chain([span.last]) {
                    let port = Port::new(number);
                    let connection = Connection { src, dst, port, proto, road: Road::Direct };
                    let verdict = judge(&tables, &names, &connection).unwrap().verdict;
                    assert_eq!(verdict == Verdict::Denied, !allowed, "{connection:?}");
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 16 * 3 * 60, "{asked}");
}

#[test]
fn without_policies_there_is_no_matrix() {
    let matrix = matrix(&Fake::default(), &Names::default()).unwrap();
    assert_eq!(matrix, Matrix::default());
}

/// What begins and ends, one line each, without what stands between.
fn tags(html: &str) -> Vec<&str> {
    html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default()).collect()
}

const HOSTILE: &str =
    "</td></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;\u{1b}[31m\u{202e}";

#[test]
fn a_name_is_never_a_part_of_the_page() {
    let (plain, hostile) = (render::page(&page("n")), render::page(&page(HOSTILE)));
    let escaped = "&lt;/td&gt;&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;\
        &quot;&#39;&amp;amp;\\u{1b}[31m\\u{202e}";
    assert_eq!(tags(&plain), tags(&hostile.replace(escaped, "n")));
    // Each of the texts, some of which stand in several places.
    for number in 1..=15 {
        assert!(hostile.contains(&format!("{escaped}{number}")), "{number}");
    }
    assert!(!hostile.contains(['\u{1b}', '\u{202e}']));
}

#[test]
fn what_begins_ends_and_no_two_places_have_one_name() {
    let html = render::page(&page("n"));
    let mut open = Vec::new();
    let mut ids = BTreeMap::new();
    for tag in tags(&html).into_iter().filter(|tag| !tag.starts_with('!')) {
        for id in tag.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            *ids.entry(id).or_insert(0) += 1;
        }
        let name = tag.split(' ').next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
            None if ["meta", "input"].contains(&name) => {}
            None => open.push(name),
        }
    }
    assert_eq!(open, [""; 0]);
    assert_eq!(ids.iter().filter(|(_, count)| **count > 1).collect::<Vec<_>>(), []);
    let links = html.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap());
    let mut count = 0;
    for link in links {
        assert!(ids.contains_key(link), "#{link} leads nowhere");
        count += 1;
    }
    // To the content, six sections, and the cells but the four between those that are no pods.
    assert_eq!(count, 1 + 6 + 12);
    for outside in ["http://", "https://", "url(", "@import", "src="] {
        assert!(!html.contains(outside), "{outside}");
    }
}

/// The page as it is heard: headings, captions, rows.
fn heard(html: &str) -> Vec<String> {
    let body = html.split("<main").nth(1).unwrap().split("</main>").next().unwrap();
    let mut lines = vec![String::new()];
    for piece in body.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap();
        let begins = ["h2", "h3", "p", "tr", "caption", "dt", "summary"];
        if begins.contains(&tag.split(' ').next().unwrap()) {
            lines.push(String::new());
        }
        let line = lines.last_mut().unwrap();
        if ["td", "th", "dd", "span"].contains(&tag.split(' ').next().unwrap()) && !line.is_empty() {
            line.push_str(" | ");
        }
        line.push_str(text.trim_matches('\n'));
    }
    lines.iter().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn a_report_reads_like_this() {
    let mut page = page("n");
    // The matrix has a test of its own.
    page.matrix = Matrix::default();
    assert_eq!(
        heard(&render::page(&page)),
        [
            "Node",
            "degraded n11",
            "Agent | n10",
            "Programs",
            "Programs in the kernel and where they sit",
            "Hook | Where | State",
            "from-pod | n12 | attached",
            "Services",
            "Frontends are those of the maps; endpoints are as the agent wrote them down at 2026-01-02T03:04:00Z. This node is in zone n13.",
            "n1 | 1 address not served as asked",
            "Traffic policies: internal Cluster, external Local.",
            "Addresses of n1",
            "Address | Type | Protocol | Port name | Backends | On this node | Algorithm | Affinity",
            "10.96.0.1:80 | ClusterIP | TCP | n2 | 1 | 0 | random | 600 s",
            "Behind n3, TCP over IPv4",
            "Endpoints in zone n4: 1 of 2 in use",
            "Endpoint | Node | State | In use | Why not",
            "10.244.1.1:8080 | n2 | ready | yes |",
            "10.244.1.2:8080 | n2 | not ready | no | n5",
            "Addresses that are not served as asked",
            "Address | Type | Why",
            "198.51.100.1:80/TCP | ExternalIP | n6",
            "Policies",
            "No policy is in force on this node: every pod may talk to every pod.",
            "Who denied",
            "Packets denied by policies, by rule, since the maps were made",
            "Policy | Direction | Rule | Packets",
            "n14 | ingress | isolation | 7",
            "Drops",
            "Packets and socket calls that ended, by reason, since the maps were made",
            "Reason | Outcome | Count | What it means",
            "denied-ingress | drop | 5 | The policies that the receiving pod is under do not let it get this (policy items 2, 6).",
            "no-endpoints | reject | 2 | The Service has no usable backend anywhere (item 50).",
            "While it was watched",
            "Packets and socket calls that ended in 2 seconds, by reason",
            "Reason | Outcome | Count | Most in a second | Course",
            "no-endpoints | reject | 3 | 2.0 |",
            "Maps",
            "Maps in the kernel",
            "Map | Used | Entries | Room | Memory | Holds",
            "frontends4 | 75 % 75 % | 3 | 4 | 4.0 KiB | who is served",
            "Repairs",
            "Somebody or something has changed what the agent keeps; it was put right.",
            "What audits have put right since the agent started",
            "Where | Entries",
            "n15 | 1",
        ]
        .map(|line| line.trim_end().to_owned())
    );
}

/// A browser runs a script of another digest not at all, and then the search is missing.
#[test]
fn the_page_allows_its_own_script_and_no_other() {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(render::SEARCH);
    let allowed = format!("'sha256-{}'", base64(&digest));
    assert!(render::ALLOWED.contains(&allowed), "script-src has to be {allowed}");
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |chunk: &[u8]| {
        let [a, b, c] = [0, 1, 2].map(|place| u32::from(chunk.get(place).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        let digit = |place: usize| match place <= chunk.len() {
            true => char::from(DIGITS[(bits >> (18 - 6 * place)) as usize & 63]),
            false => '=',
        };
        [0, 1, 2, 3].map(digit)
    };
    bytes.chunks(3).flat_map(digits).collect()
}
