//! A real browser without a screen and without a network, told what to do over its debugging pipe.
//!
//! <https://chromedevtools.github.io/devtools-protocol/>

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// Longest life of a browser: a page is shown in a second on an idle machine.
const LIFE: &str = "240";

/// The pipe is the browser's third and fourth descriptor; what it prints goes where our errors go.
const START: &str = "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
    --remote-debugging-pipe --window-size=1280,1500 --user-data-dir=\"$1\" about:blank 3<&0 4>&1 1>/dev/null 2>&1 </dev/null";

/// A browser with one page.
pub(crate) struct Browser {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    asked: u64,
    /// What the page has told by itself.
    pub(crate) events: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts it in a network namespace of its own, in which there is nothing.
    pub(crate) fn start() -> Self {
        let found = Command::new("chromium").arg("--version").output();
        assert!(
            found.is_ok_and(|output| output.status.success()),
            "there is no `chromium`: cargo xtask setup --only browser"
        );
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("timeout");
        command
            .args(["--signal=KILL", LIFE, "unshare", "--net", "sh", "-c", START, "sh"])
            .arg(profile.path());
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let from = BufReader::new(from);
        let mut browser =
            Self { process, to, from, session: None, asked: 0, events: Vec::new(), _profile: profile };
        let page = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached =
            browser.call("Target.attachToTarget", json!({"targetId": page["targetId"], "flatten": true}));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Network", "Log", "Runtime", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Shows a file and waits until it is there.
    pub(crate) fn show(&mut self, file: &Path, query: &str) {
        self.events.clear();
        self.call("Page.navigate", json!({"url": format!("file://{}{query}", file.display())}));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.hear();
            self.events.push(event);
        }
    }

    /// Asks and waits for the answer; what comes in between is kept.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.asked += 1;
        let mut question = json!({"id": self.asked, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            question["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&question).unwrap();
        bytes.push(0);
        self.to.write_all(&bytes).unwrap();
        loop {
            let heard = self.hear();
            if heard["id"] == self.asked {
                assert!(heard.get("error").is_none(), "{method}: {heard}");
                return heard["result"].clone();
            }
            self.events.push(heard);
        }
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let question = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", question);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// What is seen, as PNG.
    pub(crate) fn picture(&mut self, file: &Path) {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let mut decode = Command::new("base64");
        decode.arg("--decode").stdin(Stdio::piped()).stdout(std::fs::File::create(file).unwrap());
        let mut process = decode.spawn().unwrap();
        process.stdin.take().unwrap().write_all(answer["data"].as_str().unwrap().as_bytes()).unwrap();
        assert!(process.wait().unwrap().success());
    }

    fn hear(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(0), "the browser is gone, or took longer than {LIFE} s");
        serde_json::from_slice(&bytes).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends when its pipe does; should it not, its time does. Its profile goes once it has ended.
        let _ = self.to.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let _ = self.process.wait();
    }
}
