//! `proxyctl report` of a real node in a real browser: it is found in, followed and heard, in both colours, it says what
//! `proxyctl explain` says, and it asks nobody for anything.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::{Load, Probe, Protocol};

use crate::browser::Browser;
use crate::explained::{json_of, strict};
use crate::objects;
use crate::stage::{PATIENCE, Stage};

/// A name that no API server takes, but a file may have.
const HOSTILE: &str = "<img src=x onerror=\"document.title='taken'\">\u{1b}[31m";

/// Text that stands on less than the contrast of 4.5 that WCAG 2 asks for (success criterion 1.4.3).
const TOO_PALE: &str = r"(() => {
    const parts = (color) => (color.match(/[\d.]+/g) ?? []).map(Number);
    const light = (color) => {
        const [r, g, b] = parts(color).slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (; element; element = element.parentElement) {
            const color = getComputedStyle(element).backgroundColor;
            if (parts(color)[3] !== 0) return color;
        }
        return 'rgb(255, 255, 255)';
    };
    const pale = new Set();
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || ['SCRIPT', 'METER'].includes(element.tagName)) continue;
        const [one, other] = [getComputedStyle(element).color, behind(element)].map(light).sort((a, b) => b - a);
        if ((one + 0.05) / (other + 0.05) < 4.5) pale.add(element.tagName + '.' + element.className);
    }
    return [...pale];
})()";

/// A report of the first node, as a file.
fn report(stage: &Stage) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    let Output { status, stdout, stderr } =
        stage.proxyctl("node-1", &["report", "--for", "2s", &file.display().to_string()]);
    let said = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{said}{}", String::from_utf8_lossy(&stderr));
    assert!(said.contains(": 2 Services, "), "{said}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    (folder, file)
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_report_is_searched_followed_and_heard_in_a_browser_without_a_network() {
    let (stage, _) = strict();
    stage.put(&objects::service(HOSTILE, &["10.96.0.66", "fd00:96::66"]));
    let log = "the Service with a strange name";
    let deadline = Instant::now() + PATIENCE;
    while json_of(&stage, "node-1", &["status"])["services"] != 2 {
        assert!(Instant::now() < deadline, "not served: {log}");
    }
    let refused = refusals(&stage);
    let (_folder, file) = report(&stage);
    refused.stop().unwrap();
    let mut browser = Browser::start();
    browser.show(&file, "");
    assert_eq!(browser.value("document.title"), "Sluice on node-1");
    assert_eq!(browser.value("document.images.length + document.scripts.length"), 1);

    finds(&mut browser);
    draws_what_was_lost(&mut browser);
    says_what_explain_says(&mut browser, &stage);
    is_heard(&mut browser);
    for scheme in ["light", "dark"] {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.call("Emulation.setEmulatedMedia", features);
        browser.value("document.querySelectorAll('details').forEach((one) => { one.open = true; })");
        assert_eq!(browser.value(TOO_PALE), json!([]), "{scheme}");
    }
    let light = json!({"features": [{"name": "prefers-color-scheme", "value": "light"}]});
    browser.call("Emulation.setEmulatedMedia", light);
    browser.show(&file, "?find=10.96.0.66");
    assert_eq!(browser.value("document.querySelectorAll('details[data-row]:not([hidden])').length"), 1);
    asks_nobody(&browser, &file, "?find=10.96.0.66");
    browser.show(&file, "");
    browser.value("document.getElementById('policies').scrollIntoView()");
    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.png");
    browser.picture(&picture);
    assert!(std::fs::metadata(&picture).unwrap().len() > 10_000, "{}", picture.display());
    asks_nobody(&browser, &file, "");
}

/// A pod that asks the Service without endpoints again and again, and was refused already.
fn refusals(stage: &Stage) -> Load {
    let nobody = SocketAddr::new("10.96.0.66".parse().unwrap(), objects::HTTP);
    let probe = Probe { pause: Duration::from_millis(5), ..Probe::new(Protocol::Tcp, nobody) };
    let load = stage.lab.pod("web-1").unwrap().load("refused", &probe).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while load.read().unwrap().tally.failures() == 0 {
        assert!(Instant::now() < deadline, "nobody was refused");
    }
    load
}

/// What is typed is what is shown, and a link can carry it.
fn finds(browser: &mut Browser) {
    let all = browser.value("document.querySelectorAll('[data-row]').length").as_u64().unwrap();
    browser.value("document.getElementById('search').focus()");
    browser.call("Input.insertText", json!({"text": "10.96.0.66 ClusterIP"}));
    let shown = "[...document.querySelectorAll('details[data-row]:not([hidden])')].map((one) => one.querySelector('b').textContent)";
    assert_eq!(
        strings(&browser.value(shown)),
        ["demo/<img src=x onerror=\"document.title='taken'\">\\u{1b}[31m"]
    );
    assert_eq!(browser.value("document.querySelector('details[data-row]:not([hidden])').open"), true);
    let found = browser.value("document.getElementById('found').textContent");
    assert!(found.as_str().unwrap().ends_with(&format!(" of {all} entries")), "{found}");
    browser.value("document.getElementById('search').value = ''; document.getElementById('search').dispatchEvent(new Event('input'))");
    assert_eq!(browser.value("document.querySelectorAll('[data-row][hidden]').length"), 0);
}

/// Connections were refused all the while: the line is drawn in the width of its picture and reaches its upper edge, at most
/// times or at one.
fn draws_what_was_lost(browser: &mut Browser) {
    let rows = "[...document.querySelectorAll('tr:has(svg.course)')].map((row) => row.cells[0].textContent)";
    let rows = strings(&browser.value(rows));
    assert!(rows.iter().any(|reason| reason == "no-endpoints"), "{rows:?}");
    let drawn = "[...document.querySelectorAll('svg.course')].every((one) => {
        const [picture, line] = [one, one.firstElementChild].map((part) => part.getBoundingClientRect());
        return line.width > 0.9 * picture.width && line.top >= picture.top
            && line.top < picture.top + 0.2 * picture.height && line.bottom <= picture.bottom && picture.width > 200 && getComputedStyle(one.firstElementChild).stroke !== 'none';
    })";
    assert_eq!(browser.value(drawn), true);
}

/// Each cell of the matrix leads to what `proxyctl explain` says of the same connection.
fn says_what_explain_says(browser: &mut Browser, stage: &Stage) {
    let names = "[...document.querySelectorAll('.matrix thead th')].slice(1).map((one) => one.textContent)";
    let names = strings(&browser.value(names));
    assert_eq!(names[..2], ["demo/client", "demo/web-1"]);
    browser.value("document.querySelector('.matrix tbody tr:nth-child(1) td:nth-child(3) a').click()");
    let rows = "[...document.querySelectorAll('tr:target')].map((row) => [...row.cells].map((cell) => cell.textContent).join('|'))";
    let rows = strings(&browser.value(rows));
    let port = crate::objects::HTTP_TARGET.to_string();
    let question = ["explain", "--from", "demo/client", "--to", "demo/web-1", "--port", &port];
    let answer = json_of(stage, "node-1", &question)["answers"][0].clone();
    let [egress, ingress] =
        ["egress", "ingress"].map(|side| answer[side]["text"].as_str().unwrap().to_owned());
    assert_eq!(rows, [format!("demo/client|demo/web-1|TCP {port}|allowed|{egress}|{ingress}")]);
}

/// Landmarks, headings in order, and a name for each table.
fn is_heard(browser: &mut Browser) {
    let tree = browser.call("Accessibility.getFullAXTree", json!({}));
    let nodes: Vec<(&str, &str)> = tree["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|node| node["ignored"] != true)
        .filter_map(|node| {
            Some((node["role"]["value"].as_str()?, node["name"]["value"].as_str().unwrap_or("")))
        })
        .collect();
    for landmark in ["banner", "navigation", "search", "main", "contentinfo"] {
        assert_eq!(nodes.iter().filter(|(role, _)| *role == landmark).count(), 1, "{landmark}");
    }
    let nameless = |(role, name): &&(&str, &str)| {
        ["table", "link", "searchbox", "region", "meter", "image", "columnheader", "rowheader"].contains(role)
            && name.trim().is_empty()
    };
    assert_eq!(nodes.iter().find(nameless), None);
    let headings =
        strings(&browser.value("[...document.querySelectorAll('h1, h2')].map((one) => one.textContent)"));
    assert_eq!(headings, ["Sluice on node-1", "Node", "Services", "Policies", "Drops", "Maps", "Repairs"]);
}

/// Nothing but the file itself was wanted, and nothing went wrong.
fn asks_nobody(browser: &Browser, file: &Path, query: &str) {
    let of = |method: &'static str| browser.events.iter().filter(move |event| event["method"] == method);
    let wanted: Vec<&str> = of("Network.requestWillBeSent")
        .filter_map(|event| event["params"]["request"]["url"].as_str())
        .collect();
    assert_eq!(wanted, [format!("file://{}{query}", file.display())]);
    let wrong: Vec<&Value> = of("Log.entryAdded").chain(of("Runtime.exceptionThrown")).collect();
    assert_eq!(wrong, [&Value::Null; 0]);
}
