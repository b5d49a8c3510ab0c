//! A headless Chromium, spoken to by its debugging protocol over a pair of pipes: one JSON object after the other, each
//! ended by a zero byte (`--remote-debugging-pipe`). See <https://chromedevtools.github.io/devtools-protocol/>.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The pipes are file descriptors 3 (what it reads) and 4 (what it writes) of the browser.
/// A browser that hangs is ended, which ends the test, too.
const PIPES: &str = "exec timeout --kill-after=5 300 \"$@\" 3<&0 4>&1 0</dev/null 1>&2";

/// A browser with one page, and everything it told of it.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    number: u64,
    /// Events so far: `method` and `params`.
    pub events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    /// Starts one with an empty page.
    ///
    /// # Panics
    /// When there is no Chromium, or it does not do as it should.
    pub fn start() -> Self {
        let profile = TempDir::new().expect("a folder");
        let mut child = Command::new("sh")
            .args(["-c", PIPES, "sh", "chromium"])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh runs");
        let to = child.stdin.take().expect("a pipe");
        let from = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut browser = Self {
            child,
            to,
            from,
            session: None,
            number: 0,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let session = browser.call(
            "Target.attachToTarget",
            &json!({ "targetId": target["targetId"], "flatten": true }),
        );
        browser.session = Some(session["sessionId"].as_str().expect("a session").to_owned());
        for domain in ["Page", "Network", "Log", "Runtime"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Calls a method and waits for what it returns.
    ///
    /// # Panics
    /// When it is refused, or the browser is gone.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to
            .write_all(format!("{message}\0").as_bytes())
            .expect("the browser reads; is chromium installed?");
        loop {
            let mut message = self.read();
            if message["id"] == self.number {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].take();
            }
        }
    }

    /// Waits for an event, also one that came already.
    ///
    /// # Panics
    /// When the browser is gone.
    #[track_caller]
    pub fn wait(&mut self, method: &str) {
        self.wait_for(method, |_| true);
    }

    /// Waits for an event whose params are right, also one that came already.
    ///
    /// # Panics
    /// When the browser is gone.
    #[track_caller]
    pub fn wait_for(&mut self, method: &str, right: impl Fn(&Value) -> bool) {
        while !self.told(method).any(&right) {
            self.read();
        }
    }

    #[track_caller]
    fn read(&mut self) -> Value {
        let mut text = Vec::new();
        self.from.read_until(0, &mut text).expect("a message");
        assert_eq!(
            text.pop(),
            Some(0),
            "the browser ended; is chromium installed?"
        );
        let message: Value = serde_json::from_slice(&text).expect("JSON");
        if message["id"].is_null() {
            self.events.push(message.clone());
        }
        message
    }

    /// Opens a file and waits until it is loaded.
    ///
    /// # Panics
    /// When it cannot.
    pub fn open(&mut self, file: &Path) {
        self.events.clear();
        let url = format!("file://{}", file.display());
        let opened = self.call("Page.navigate", &json!({ "url": url }));
        assert!(opened["errorText"].is_null(), "{opened}");
        self.wait("Page.loadEventFired");
    }

    /// Params of the events of this name.
    pub fn told<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a Value> {
        self.events
            .iter()
            .filter(move |event| event["method"] == method)
            .map(|event| &event["params"])
    }

    /// The value of an expression.
    ///
    /// # Panics
    /// When it throws.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let mut found = self.call(
            "Runtime.evaluate",
            &json!({ "expression": expression, "returnByValue": true }),
        );
        assert!(found["exceptionDetails"].is_null(), "{found}");
        found["result"]["value"].take()
    }

    /// Makes the window this wide, light or dark.
    pub fn look(&mut self, width: u32, scheme: &str) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false }),
        );
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may be gone already; then all of this has nothing to do. It writes its profile until its end.
        let _asked = self
            .to
            .write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let _drained = std::io::copy(&mut self.from, &mut std::io::sink());
        let _waited = self.child.wait();
    }
}
